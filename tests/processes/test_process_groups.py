"""Whoever is killed: callers get an answer, nobody else notices, and nothing is left behind."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.rigs.api import Response
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": ["the cat", "the dog was published once"]}


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@contextmanager
def in_mid_forward(api: Server, callers: ThreadPoolExecutor) -> Iterator[tuple[list[int], "Future[Response]"]]:
    """All lanes held with SIGSTOP, and a request that one of them has begun. Yields the lanes and the request."""
    lanes = api.pids_by_role()["lane"]
    for pid in lanes:
        os.kill(pid, signal.SIGSTOP)
    asked = callers.submit(api.post, "/predict", BODY)
    wait_until(lambda: metric(api, "model_api_queue_entries") == 1)
    try:
        yield lanes, asked
    finally:
        resume(lanes)


def resume(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def metric(api: Server, name: str) -> float:
    lines = api.get("/metrics").body.decode().splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def expect_recovery(api: Server, answer: Response) -> None:
    """It answers as before, with as many lanes."""
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=20)
    assert api.post("/predict", BODY).json()["predictions"] == answer.json()["predictions"]
    wait_until(lambda: len(api.pids_by_role()["lane"]) == 2, within_s=20)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["SIGKILL", "SIGSEGV"])
def test_a_lane_killed_in_mid_forward_is_retried_and_comes_back(
    tmp_path: Path, tiny_store: Path, callers: ThreadPoolExecutor, number: signal.Signals
) -> None:
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_LANES": 1}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready()
        before = api.post("/predict", BODY)
        with in_mid_forward(api, callers) as (lanes, asked):
            os.kill(lanes[0], number)
            resume(lanes)
            assert asked.result(30).json() == before.json()
        after = api.pids_by_role()["lane"]
        assert len(after) == 1
        assert after != lanes


def test_neighbours_of_a_killed_lane_notice_nothing(api: Server, callers: ThreadPoolExecutor) -> None:
    before = api.post("/predict", BODY).json()
    asked = [callers.submit(api.post, "/predict", BODY) for _ in range(100)]
    os.kill(api.pids_by_role()["lane"][0], signal.SIGKILL)
    assert [one.result(30).json() for one in asked] == [before] * 100
    assert api.get("/healthz").status == 200
    wait_until(lambda: len(api.pids_by_role()["lane"]) == 2, within_s=20)


def test_a_request_whose_lanes_die_twice_is_answered_503(api: Server, callers: ThreadPoolExecutor) -> None:
    before = api.post("/predict", BODY)
    with in_mid_forward(api, callers) as (lanes, asked):
        for pid in lanes:
            os.kill(pid, signal.SIGKILL)
        answer = asked.result(30)
        # A lane may have been started anew in time for the second try.
        assert answer.status in (200, 503)
        if answer.status == 503:
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) >= 1
    expect_recovery(api, before)


@pytest.mark.parametrize("role", ["leader", "fork_server"])
def test_a_killed_parent_takes_its_children_along_and_comes_back(api: Server, role: str) -> None:
    before = api.post("/predict", BODY)
    roles = api.pids_by_role()
    os.kill(roles[role][0], signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in roles["lane"]), within_s=10)
    assert api.get("/healthz").status == 200
    assert api.get("/readyz").status == 200  # latched: a crash of a model never takes an instance out
    expect_recovery(api, before)
    assert api.pids_by_role()["web"] == roles["web"]


def test_a_killed_leader_in_mid_forward_answers_its_callers(api: Server, callers: ThreadPoolExecutor) -> None:
    before = api.post("/predict", BODY)
    with in_mid_forward(api, callers) as (_, asked):
        os.kill(api.pids_by_role()["leader"][0], signal.SIGKILL)
        answer = asked.result(30)
        assert answer.status == 503
        assert answer.json()["title"]
    expect_recovery(api, before)


def test_everything_killed_at_once_leaves_nothing(api: Server) -> None:
    api.kill()  # fails if a process is left
    api.start()
    api.wait_until_ready()
    assert api.post("/predict", BODY).status == 200


def test_sigterm_answers_who_is_waiting_and_then_ends(api: Server, callers: ThreadPoolExecutor) -> None:
    before = api.post("/predict", BODY)
    with in_mid_forward(api, callers) as (lanes, asked):
        stopping = callers.submit(api.stop)
        wait_until(lambda: any(r["message"].startswith("Handling signal: term") for r in api.log_records()))
        resume(lanes)
        assert asked.result(30).json() == before.json()
        stopping.result(60)  # fails if a process is left


def test_sigterm_to_every_process_drains_as_well(api: Server, callers: ThreadPoolExecutor) -> None:
    """systemd signals the whole control group: the model processes must outlive the web process's last request."""
    with in_mid_forward(api, callers) as (lanes, asked):
        for role, pids in api.pids_by_role().items():
            for pid in pids:
                if role != "web":
                    os.kill(pid, signal.SIGTERM)
        resume(lanes)
        assert asked.result(30).status == 200
    wait_until(lambda: not api.pids(), within_s=30)


def test_unready_before_it_stops_accepting(tmp_path: Path, tiny_store: Path, callers: ThreadPoolExecutor) -> None:
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_DRAIN_DELAY_S": 3}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready()
        stopping = callers.submit(api.stop)
        unready = api.wait_for_status("/readyz", 503)
        assert unready.json()["draining"] is True
        assert api.post("/predict", BODY).status == 200  # the balancer hasn't noticed yet
        stopping.result(60)
        api.start()  # so that leaving the block has something to stop
