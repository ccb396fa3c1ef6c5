"""Requests mutated on the wire, alone and through Beanstalk's nginx: every answer is HTTP, none a 500, nothing ends.

`python -m benchmarks.mutations` sends as many as one likes.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.rigs.mutated_requests import answers, exchange, faults, mutated
from tests.rigs.nginx import behind_nginx
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
N = 600  # each way


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mutated")
    with server(folder, MODEL_API_EFS_ROOT=tiny_store, MODEL_API_MODELS="tiny", MODEL_API_PROXY_HOPS=1) as api:
        api.wait_until_ready()
        yield api


def send_all(api: Server, *, through_nginx: bool) -> None:
    def send(number: int) -> tuple[int, list[str]]:
        data = mutated(number)
        received = exchange(api.port, data, half_close=not through_nginx)
        return number, faults(data, received, through_nginx=through_nginx)

    web = api.pids_by_role()["web"]
    with ThreadPoolExecutor(32) as callers:
        wrong = [outcome for outcome in callers.map(send, range(N)) if outcome[1]]
    assert not wrong, f"mutated(N) makes each again: {wrong[:10]}"
    assert api.pids_by_role()["web"] == web
    assert api.get("/healthz").status == 200
    assert api.post("/predict", {"model": "tiny", "inputs": "a"}).status == 200


def test_alone(api: Server) -> None:
    send_all(api, through_nginx=False)


def test_through_nginx(api: Server, tmp_path: Path) -> None:
    with behind_nginx(api, tmp_path) as proxied:
        send_all(proxied, through_nginx=True)


def problem(status: int, content_type: str = "application/problem+json", says: int | None = None) -> bytes:
    body = b'{"status": %d}' % (says or status)
    return b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: 15\r\n\r\n%s" % (status, content_type.encode(), body)


@pytest.mark.parametrize(
    ("received", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", "unreadable"),
        (problem(500), "status 500"),
        (problem(404, "text/html"), "404 as text/html"),
        (problem(404, says=400), "404 says 400"),
        (b"HTTP/1.1 204 X\r\nX-Request-Id: a\r\nX-Request-Id: b\r\n\r\n", "X-Request-Id twice"),
        (problem(404) + b"nonsense", "not HTTP"),
    ],
)
def test_a_fault_would_be_seen(received: bytes, fault: str) -> None:
    assert fault in faults(b"GET / HTTP/1.1\r\n\r\n", received)[0]


def test_answers_are_read_one_after_the_other() -> None:
    received = b"HTTP/1.1 100 Continue\r\n\r\n" + problem(404) + problem(422)
    assert [answer.status for answer in answers(received)[0]] == [404, 422]
    assert not faults(b"GET / HTTP/1.1\r\n\r\n", received)


def test_a_number_is_a_request_for_ever() -> None:
    assert [mutated(n) for n in range(50)] == [mutated(n) for n in range(50)]
    assert len({mutated(n) for n in range(1000)}) > 900
