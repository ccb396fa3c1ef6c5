"""Too much, too late, or nobody there any more: told at once, and nobody else suffers."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_api.serving.batching import PATIENCE_S
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": "the model"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    settings = {
        "MODEL_API_EFS_ROOT": tiny_store,
        "MODEL_API_MODELS": "tiny",
        "MODEL_API_LANES": 1,
        "MODEL_API_MAX_QUEUE_ENTRIES": 6,  # of which one caller may hold 4
        "MODEL_API_REQUEST_TIMEOUT_S": 3,
        "MODEL_API_MAX_BODY_BYTES": 2000,
    }
    with server(tmp_path_factory.mktemp("api"), **settings) as api:
        api.wait_until_ready()
        yield api


@contextmanager
def held(api: Server) -> Iterator[None]:
    """The only lane stands still inside the block."""
    (lane,) = api.pids_by_role()["lane"]
    os.kill(lane, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(lane, signal.SIGCONT)


def entries(api: Server) -> int:
    lines = api.get("/metrics").body.decode().splitlines()
    return int(next(float(line.split()[1]) for line in lines if line.startswith("model_api_queue_entries ")))


def test_a_full_queue_answers_503_at_once_and_health_checks_go_on(api: Server) -> None:
    with ThreadPoolExecutor(8) as callers:
        with held(api):
            waiting = [callers.submit(api.post, "/predict", BODY) for _ in range(4)]
            wait_until(lambda: entries(api) == 4)
            refused = api.post("/predict", BODY)
            assert refused.status == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["type"].endswith("queue-full")
            assert api.get("/healthz").status == 200
            assert api.get("/readyz").status == 200
        assert [one.result(30).status for one in waiting] == [200] * 4
    assert entries(api) == 0


def test_past_its_deadline_a_request_is_answered_504(api: Server) -> None:
    with held(api):
        late = api.post("/predict", BODY)
    assert late.status == 504
    assert late.headers["content-type"] == "application/problem+json"
    assert wait_until(lambda: api.post("/predict", BODY)).status == 200


def test_who_left_is_not_computed_for(api: Server) -> None:
    with ThreadPoolExecutor(1) as callers:
        with held(api):
            # Not the text that timed out before: a job has its answer.
            running = callers.submit(api.post, "/predict", {"model": "tiny", "inputs": "the weights"})
            wait_until(lambda: entries(api) == 1)
            body = b'{"model": "tiny", "inputs": "the dog"}'
            head = f"POST /predict HTTP/1.1\r\nHost: x\r\nX-Request-Id: left-1\r\nContent-Length: {len(body)}\r\n"
            with socket.create_connection(("127.0.0.1", api.port)) as leaving:
                leaving.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
                wait_until(lambda: entries(api) == 2)
            left = time.monotonic()
            wait_until(lambda: time.monotonic() > left + PATIENCE_S)
        assert running.result(30).status == 200
    (line,) = wait_until(lambda: [r for r in api.log_records() if r.get("id") == "left-1"])
    assert line["status"] == 499


def test_too_large_a_body_is_413(api: Server) -> None:
    answer = api.post("/predict", {"model": "tiny", "inputs": "x" * 3000})
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_start_is_alive_before_it_is_ready_and_says_what_it_waits_for(tmp_path: Path, tiny_store: Path) -> None:
    with server(tmp_path, MODEL_API_EFS_ROOT=tiny_store, MODEL_API_MODELS="tiny,absent") as api:
        api.wait_for_model("tiny", state="serving")
        unready = api.get("/readyz")
        assert unready.status == 503
        assert unready.json()["models"] == {"tiny": "serving", "absent": "not published"}
        assert api.post("/predict", BODY).status == 200
        assert api.post("/predict", {"model": "absent", "inputs": "x"}).status == 404


def test_an_empty_store_is_ready_and_one_without_a_marker_is_not(tmp_path: Path) -> None:
    root = tmp_path / "efs"
    root.mkdir()
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=root) as api:
        api.wait_for_status("/mount_check", 503)
        assert api.get("/readyz").status == 503
        assert api.post("/predict", BODY).status == 503  # nobody knows yet what is published
        (root / ".model-store").write_text("1\n")
        api.wait_until_ready()
        assert api.get("/mount_check").json()["mounted"] is True
        assert api.get("/models").json()["models"] == []
        assert api.post("/predict", BODY).status == 404
