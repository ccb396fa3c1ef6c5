"""Run by systemd in a machine of tests/rigs/systemd_machine.py: what becomes of the application's unit there.

systemd_check.py          as a check: start web.service, look at it, then plain.service, which lacks the drop-in
systemd_check.py web      as the application: many lines of log, then a child that takes more memory than there is
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

LOG = Path("/var/log/web.stdout.log")
N_LINES = 30_000  # journald takes 10,000 in 30 s, rsyslog 20,000 in 10 minutes
N_STARTS = 6  # systemd's default allows five
PROPERTIES = ("ActiveState", "Result", "MainPID", "NRestarts", "OOMPolicy", "LimitNOFILE")


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def application() -> None:
    for number in range(N_LINES):
        say(number=number)
    say(files=resource.getrlimit(resource.RLIMIT_NOFILE)[0], uid=os.getuid())
    child = os.fork()
    if child == 0:
        hoard = bytearray(256 << 20)
        for at in range(0, len(hoard), 4096):
            hoard[at] = 1
        os._exit(0)
    say(child=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print("on the other stream", file=sys.stderr, flush=True)
    time.sleep(3600)


def systemctl(*arguments: str) -> str:
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False).stdout


def shown(unit: str) -> dict[str, str]:
    told = systemctl("show", unit, *(f"--property={name}" for name in PROPERTIES))
    return dict(line.split("=", 1) for line in told.splitlines())


def until(condition: object, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.1)


def check() -> None:
    systemctl("start", "web")
    before = shown("web")
    until(lambda: LOG.exists() and "other stream" in LOG.read_text())
    for other in ("plain", "crashing"):
        systemctl("start", other)
    until(lambda: shown("plain")["ActiveState"] == "failed")
    until(lambda: int(shown("crashing")["NRestarts"]) > N_STARTS)
    lines = LOG.read_text().splitlines() if LOG.exists() else []
    raw = [line for line in lines if line.startswith("{")]
    result = {
        "before": before,
        "after": shown("web"),
        "plain": shown("plain"),
        "crashing": shown("crashing"),
        "numbers": [json.loads(line)["number"] for line in raw if "number" in line] == list(range(N_LINES)),
        "rest": [json.loads(line) for line in raw if "number" not in line],
        "others": [line for line in lines if not line.startswith("{")],
    }
    print("RESULT " + json.dumps(result), flush=True)
    subprocess.run(["/sbin/poweroff", "-f"], check=False)


if __name__ == "__main__":
    application() if sys.argv[1:] else check()
