"""A thousand callers who ask the same at the same time: one forward, and the same answer for all."""

import http.client
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
import pytest

from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
CALLERS, THREADS = 1000, 50
BODY = orjson.dumps({"model": "tiny", "inputs": ["the model was published once", "and the cat"]})


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    settings = {
        "MODEL_API_EFS_ROOT": tiny_store,
        "MODEL_API_MODELS": "tiny",
        "MODEL_API_LANES": 1,
        "MODEL_API_CACHE": "memory",
        # A thread per caller, so that all are in the application at once. Who joins takes a place in the queue, too.
        "MODEL_API_MAX_QUEUE_ENTRIES": CALLERS * 3 // 2,  # of which one caller may hold three quarters
    }
    with server(tmp_path_factory.mktemp("api"), **settings) as api:
        api.wait_until_ready()
        yield api


def counts(api: Server) -> Counter[str]:
    """Cache events by name, and the lanes' batches and rows."""
    found: Counter[str] = Counter()
    for line in api.get("/metrics").body.decode().splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("model_api_cache_events_total"):
            found[name.split('"')[1]] = int(float(value))
        elif name in ("model_api_lane_batches_total", "model_api_lane_rows_total", "model_api_queue_entries"):
            found[name] = int(float(value))
    return found


def ask_many(api: Server, n: int, start: threading.Barrier) -> list[tuple[int, bytes]]:
    """Status and body of `n` requests that are open at the same time, each on a connection of its own."""
    with ExitStack() as open_connections:
        connections = []
        for _ in range(n):
            connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=60)
            connections.append(open_connections.enter_context(closing(connection)))
            connection.connect()
        start.wait(60)
        for connection in connections:
            connection.request("POST", "/predict", BODY, {"Content-Type": "application/json"})
        answers = [connection.getresponse() for connection in connections]
        return [(answer.status, answer.read()) for answer in answers]


def test_a_thousand_identical_requests_at_once_are_one_forward(api: Server) -> None:
    roles = api.pids_by_role()
    (web,), (lane,) = roles["web"], roles["lane"]
    threads = Path(f"/proc/{web}/task")
    before, n_threads = counts(api), len(list(threads.iterdir()))
    start = threading.Barrier(THREADS)
    with ThreadPoolExecutor(THREADS) as callers:
        os.kill(lane, signal.SIGSTOP)  # the forward takes until all callers wait for it
        try:
            asked = [callers.submit(ask_many, api, CALLERS // THREADS, start) for _ in range(THREADS)]
            # gunicorn adds a thread when all it has are busy; a few were there and idle.
            wait_until(
                lambda: len(list(threads.iterdir())) >= n_threads + CALLERS - 20,
                within_s=60,
                what=f"{CALLERS} requests in the application",
            )
            assert counts(api)["model_api_queue_entries"] == 1
        finally:
            os.kill(lane, signal.SIGCONT)
        answers = [answer for one in asked for answer in one.result(60)]
    assert Counter(status for status, _ in answers) == {200: CALLERS}
    (predictions,) = {orjson.dumps(orjson.loads(body)["predictions"]) for _, body in answers}
    assert len({body for _, body in answers}) == 1
    assert [len(vector) for vector in orjson.loads(predictions)] == [64, 64]
    new = counts(api)
    new.subtract(before)
    assert new["model_api_lane_batches_total"] == 1
    assert new["model_api_lane_rows_total"] == 2
    assert new["miss"] == 1
    # The last few may have been read only after the answer was there: then they found it cached.
    assert new["joined"] + new["hit"] == CALLERS - 1
    assert new["joined"] > 0.9 * CALLERS
