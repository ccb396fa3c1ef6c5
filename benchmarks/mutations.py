"""What requests that are mutated on the wire do to a server: `python -m benchmarks.mutations [N]`, alone and by nginx.

Prints a table in Markdown, a row per way: answers by status, what was wrong with them, the longest that health took.
The requests are those of tests/rigs/mutated_requests.py from number `--first` on, so that each can be made again.
"""

import argparse
import http.client
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.rigs.author import Author
from tests.rigs.bystander import bystander
from tests.rigs.models import tiny_model
from tests.rigs.mutated_requests import answers, exchange, faults, mutated
from tests.rigs.nginx import behind_nginx
from tests.rigs.server import Server, server

HEAD = (
    "| way | requests | answers | by status | none | faults | health longest ms | unhealthy | web process | s |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def send(api: Server, number: int, through_nginx: bool) -> tuple[list[int], list[str]]:
    """The statuses that one request brought, and what was wrong."""
    data = mutated(number)
    try:
        received = exchange(api.port, data, half_close=not through_nginx)
        wrong = faults(data, received, through_nginx=through_nginx)
        return ([] if wrong else [one.status for one in answers(received, to_head=b"HEAD " in data)[0]]), wrong
    except (OSError, http.client.HTTPException) as error:
        return [], [repr(error)]


def row(way: str, api: Server, numbers: range, callers: int) -> str:
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    unanswered = 0
    web = api.pids_by_role()["web"]
    began = time.monotonic()
    with bystander(api) as seen, ThreadPoolExecutor(callers) as pool:
        outcomes = pool.map(lambda number: send(api, number, way == "nginx"), numbers)
        for number, (found, told) in zip(numbers, outcomes, strict=True):
            statuses.update(found)
            unanswered += not found
            wrong += [f"{number}: {one}" for one in told]
    for one in wrong:
        print(one)
    by_status = ", ".join(f"{status} x {n}" for status, n in sorted(statuses.items()))
    web_now = "the same" if api.pids_by_role()["web"] == web else "ended"
    figures = (len(numbers), statuses.total(), by_status, unanswered, len(wrong), f"{seen.health_at(1.0) * 1e3:.0f}")
    took_s = time.monotonic() - began
    return f"| {way} | {' | '.join(map(str, figures))} | {len(seen.unhealthy)} | {web_now} | {took_s:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("n", nargs="?", type=int, default=50_000, help="requests, half of them each way (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--callers", type=int, default=48, help="at a time")
    options = parser.parse_args()
    half = options.n // 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "efs").mkdir()
        Author(folder / "efs").publish(tiny_model(folder / "tiny", seed=1), "tiny")
        settings = {"MODEL_API_EFS_ROOT": folder / "efs", "MODEL_API_MODELS": "tiny", "MODEL_API_PROXY_HOPS": 1}
        print(HEAD, flush=True)
        with server(folder / "api", **settings) as api:
            api.wait_until_ready()
            first = options.first
            print(row("alone", api, range(first, first + half), options.callers), flush=True)
            with behind_nginx(api, folder / "nginx") as proxied:
                print(row("nginx", proxied, range(first + half, first + options.n), options.callers), flush=True)


if __name__ == "__main__":
    main()
