"""/score can't hold the server: it computes elsewhere, in turn, and only so much."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
LINES = {"targets": ["a\n" + ".\n" * 49_000], "predictions": ["a\n" + ",\n" * 49_000]}
LONG = {"targets": ["w x " * 995], "predictions": ["x w " * 995]}
SHORT = {"targets": ["the bridge opens on monday"], "predictions": ["the bridge opens monday"]}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_REQUEST_TIMEOUT_S": 8}
    with server(tmp_path_factory.mktemp("api"), **settings) as api:
        api.wait_until_ready()
        yield api


def scorer_pids(api: Server) -> list[int]:
    return [pid for pid in api.pids() if b"scorer_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_lines_against_lines_are_refused_for_what_they_cost(api: Server) -> None:
    refused = api.post("/score", LINES)
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == "/predictions/0"
    assert "lines" in refused.json()["detail"]


def test_a_flood_of_long_pairs_is_answered_or_refused_and_health_goes_on(api: Server) -> None:
    assert api.post("/score", SHORT).status == 200
    web = api.pids_by_role()["web"]
    with ThreadPoolExecutor(240) as callers:
        flood = [callers.submit(api.post, "/score", LONG) for _ in range(240)]
        while not all(one.done() for one in flood):
            assert api.get("/healthz").status == 200
        statuses = {one.result().status for one in flood}
    assert statuses <= {200, 503, 504}
    assert 503 in statuses  # the queue's cap is theirs, too
    assert api.pids_by_role()["web"] == web
    wait_until(lambda: api.post("/score", SHORT).status == 200, within_s=20)


def test_a_scorer_that_is_killed_or_stands_still_is_started_anew(api: Server) -> None:
    assert api.post("/score", SHORT).status == 200
    (first,) = scorer_pids(api)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: first not in scorer_pids(api), within_s=20, what="the end of the scorer that was killed")
    wait_until(lambda: api.post("/score", SHORT).status == 200, within_s=20)
    (second,) = scorer_pids(api)
    os.kill(second, signal.SIGSTOP)
    asked = time.monotonic()
    assert api.post("/score", SHORT).status == 504
    assert time.monotonic() - asked >= 8  # its deadline, not earlier
    wait_until(lambda: api.post("/score", SHORT).status == 200, within_s=40)
    wait_until(lambda: second not in scorer_pids(api), within_s=20, what="the end of the scorer that stood still")
