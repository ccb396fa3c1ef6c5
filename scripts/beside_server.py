"""Beside `scripts/serve`: say when the server is ready, then train the demo's second model and publish it live.

usage: python -m scripts.beside_server URL EFS_ROOT SERVER_PID < a command to try
It ends with the server: the kernel sends SIGTERM when that process ends, and its own child is ended then.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY_TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.2
PARENT_EVERY_S = 0.5


def say(text: str) -> None:
    print(f"serve: {text}", file=sys.stderr, flush=True)


def end_with(server_pid: int) -> None:
    """Leave when the server has left, and when told to."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != server_pid:  # it left before we asked
        os._exit(0)


def wait_until_ready(url: str, timeout_s: float = READY_TIMEOUT_S) -> bool:
    """Whether /readyz said yes within the time. No proxy is asked: the server is on this host."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            with opener.open(f"{url}/readyz", timeout=5):
                return True
        except OSError:  # not listening yet, or 503
            time.sleep(LOOK_EVERY_S)
    return False


def run(command: list[str], server_pid: int) -> int:
    """The command's exit status; it is ended when the server ends."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def leave(number: int, frame: FrameType | None) -> None:
        child.terminate()
        os._exit(0)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    while child.poll() is None:
        if os.getppid() != server_pid:  # where the kernel sends nothing
            leave(signal.SIGTERM, None)
        try:
            child.wait(PARENT_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
    return child.returncode


def main(url: str, root: Path, server_pid: int, command_to_try: str) -> None:
    end_with(server_pid)
    if not wait_until_ready(url):
        say(f"not ready after {READY_TIMEOUT_S:.0f} s; {url}/readyz says why")
        return
    say(f"ready. Open {url}/ or try:\n  {command_to_try.strip().replace('http://127.0.0.1:8000', url)}")
    if os.environ.get("MODEL_API_MODELS") or (root / "models/sentiment/refs.json").exists():
        return
    say("training a sentiment classifier beside it, once (a minute or two); minilm answers meanwhile")
    os.nice(10)
    if run(["scripts/train"], server_pid):
        say("no sentiment classifier this time (see above); scripts/train tries again")
    else:
        say("sentiment is published; the server loads it now")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"), Path(sys.argv[2]), int(sys.argv[3]), sys.stdin.read())
