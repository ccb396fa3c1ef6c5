"""What a process that is killed or stopped costs the callers: `python -m benchmarks.kills [--seconds 300] [ROLE ...]`.

A random process is hit every few seconds while callers ask without pause. Prints a table in Markdown by role and
signal: requests that failed, and how long until the first answer after the hit (its median and the longest).
"""

import argparse
import os
import random
import signal
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from tests.rigs.author import Author
from tests.rigs.models import minilm_folder, tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.traffic import Traffic, traffic

ROLES = ("web", "fork_server", "leader", "lane", "scorer")
STOPPED_S = 3.0
SETTLED_ANSWERS = 20  # in a row, before the next hit
RECOVERY_S = 120.0
PAIR = {"targets": ["the bridge opens on monday"], "predictions": ["the bridge opens monday"]}


def pids_of(api: Server, role: str) -> list[int]:
    if role == "scorer":
        return [p for p in api.pids() if b"scorer_process" in Path(f"/proc/{p}/cmdline").read_bytes()]
    return api.pids_by_role()[role]


def hit(api: Server, seen: Traffic, role: str, number: int) -> tuple[int, float] | None:
    """Failed requests and seconds to the first answer that was asked for after the hit; None if there was nobody."""
    pids = pids_of(api, role)
    if not pids:
        return None
    pid, at, before = random.choice(pids), time.monotonic(), len(seen.told)
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    if number == signal.SIGSTOP:
        wait_until(lambda: time.monotonic() > at + STOPPED_S, within_s=STOPPED_S + 5)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def settled() -> bool:
        last = seen.told[before:][-SETTLED_ANSWERS:]
        return len(last) == SETTLED_ANSWERS and all(one.status == 200 and one.sent_at > at for one in last)

    wait_until(settled, within_s=RECOVERY_S, what=f"answers after {role}")
    told = seen.told[before:]
    failed = [one for one in told if one.status != 200]
    last_failure = max((one.told_at for one in failed), default=at)
    first = min(one.told_at for one in told if one.status == 200 and one.sent_at >= last_failure)
    return len(failed), first - at if failed else max(one.latency_ms for one in told) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("roles", nargs="*", default=ROLES, metavar="ROLE", help=", ".join(ROLES))
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--model", choices=("tiny", "minilm"), default="minilm")
    options = parser.parse_args()
    results: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "efs").mkdir()
        source = minilm_folder() if options.model == "minilm" else tiny_model(folder / "tiny", seed=1)
        Author(folder / "efs").publish(source, "hit")
        with server(folder / "api", MODEL_API_EFS_ROOT=folder / "efs", MODEL_API_LOG_LEVEL="WARNING") as api:
            api.wait_until_ready()
            api.post("/score", PAIR)
            with traffic(api, "hit", callers=8) as seen:
                seen.wait_for(SETTLED_ANSWERS)
                until = time.monotonic() + options.seconds
                while time.monotonic() < until:
                    role, number = random.choice(options.roles), random.choice((signal.SIGKILL, signal.SIGSTOP))
                    found = hit(api, seen, role, number)
                    if found is not None:
                        results[role, number.name].append(found)
            asked = len(seen.told)
    print(f"{asked} requests by 8 callers in {options.seconds:.0f} s\n")
    print("| role | signal | times | failed requests, median | first answer after s, median | longest |")
    print("|---|---|---|---|---|---|")
    for (role, name), hits in sorted(results.items()):
        failed, seconds = [n for n, _ in hits], [s for _, s in hits]
        figures = f"{statistics.median(failed):.0f} | {statistics.median(seconds):.1f} | {max(seconds):.1f}"
        print(f"| {role} | {name} | {len(hits)} | {figures} |")


if __name__ == "__main__":
    main()
