"""The edge under a real gunicorn, driven over plain sockets with requests that no client library would send."""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.rigs.project import ROOT
from tests.rigs.stand_in_service import share

CONFIG = """
from model_api.web.logs import logging_config
logconfig_dict = logging_config()
"""
SIM = b'{"target": "abc", "texts": ["ab"]}'
JSON_HEAD = b"POST /sim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """A port that gunicorn listens on, and its log."""
    folder = tmp_path_factory.mktemp("gunicorn")
    (folder / "gunicorn.conf.py").write_text(CONFIG)
    listener = socket.create_server(("127.0.0.1", 0))
    log = folder / "log"
    command = [sys.executable, "-m", "gunicorn", "--config", str(folder / "gunicorn.conf.py")]
    command += ["--worker-class", "model_api.web.server.worker.Worker", "--bind", f"fd://{listener.fileno()}"]
    command += ["--no-control-socket", "tests.rigs.waiting_app:create()"]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, pass_fds=[listener.fileno()]) as process,
    ):
        yield listener.getsockname()[1], log
        process.terminate()
        process.wait(20)
    listener.close()


@pytest.fixture
def port(server: tuple[int, Path]) -> int:
    return server[0]


def exchange(port: int, *parts: bytes, shut: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Send raw bytes and read one whole answer: status, headers by lower-case name, body."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        if shut:
            connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            lines = iter(stream.readline, b"\r\n")
            pairs = (line.decode("latin-1").split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in pairs}
            return status, headers, stream.read(int(headers.get("content-length", 0)))


def problem(answer: tuple[int, dict[str, str], bytes], status: int) -> dict[str, Any]:
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/problem+json"
    assert answer[1]["access-control-allow-origin"] == "*"
    document: dict[str, Any] = json.loads(answer[2])
    assert document["status"] == status
    assert document["request_id"] == answer[1]["x-request-id"]
    return document


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


def test_a_usual_request(port: int) -> None:
    status, headers, body = exchange(port, JSON_HEAD, b"Content-Length: %d\r\n\r\n" % len(SIM), SIM)
    assert status == 200
    assert headers["x-model"] == "minilm"
    assert json.loads(body)["context"]["texts"] == ["ab"]


def test_a_chunked_body(port: int) -> None:
    head = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert exchange(port, head, chunked(SIM[:5], SIM[5:]))[0] == 200
    # A body that would be whole if only its first 20,000 bytes were read.
    problem(exchange(port, head, chunked(SIM, b" " * 15_000, b" " * 15_000)), 413)
    problem(exchange(port, head, b"zz\r\n"), 400)
    problem(exchange(port, head, b"5\r\n{}"), 400)


def test_what_is_between_chunks_and_after_them_is_bounded_and_no_header(port: int) -> None:
    head = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    long = b"e" * 400_000  # more than is read at once
    trailer = b"0\r\nX-Request-Id: from-a-trailer\r\n\r\n"
    status, headers, _ = exchange(port, head, chunked(SIM).removesuffix(b"0\r\n\r\n"), trailer)
    assert status == 200
    assert headers["x-request-id"] != "from-a-trailer"
    for rest in (b"1;" + long, b"0" * 400_000, b"0\r\nX: " + long, b"0\r\n" + long):
        problem(exchange(port, head, b"1\r\n{\r\n", rest, shut=False), 431)


def test_a_long_chunked_body_that_comes_with_its_head(port: int) -> None:
    """Bytes of the body are no framing, however many come at once."""
    padded = SIM.replace(b"{", b"{" + b" " * 15_000, 1)
    head = JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    for n_bytes in (1, 7, 4000):
        chunks = [padded[at : at + n_bytes] for at in range(0, len(padded), n_bytes)]
        assert exchange(port, head + chunked(*chunks))[0] == 200


def test_a_body_that_ends_early_or_is_too_large(port: int) -> None:
    problem(exchange(port, JSON_HEAD, b"Content-Length: 1000\r\n\r\n", SIM), 400)
    problem(exchange(port, JSON_HEAD, b"Content-Length: 30000\r\n\r\n", b" " * 30_000), 413)
    problem(exchange(port, JSON_HEAD + b"\r\n"), 400)


def test_a_body_that_never_comes(port: int) -> None:
    problem(exchange(port, JSON_HEAD, b"Content-Length: 1000\r\n\r\n", SIM, shut=False), 408)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 501),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a" + b" " * 65 + b"b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: a" + b"\t " * 40 + b"b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 0\r\n\r\n", 417),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_gunicorn_itself_refuses_is_a_problem_too(port: int, request_bytes: bytes, status: int) -> None:
    problem(exchange(port, request_bytes, shut=False), status)


@pytest.mark.parametrize(
    ("target", "status"),
    [(b"//sim/x", 404), (b"/%ff%00%0d%0a", 404), (b"/\xff\xfe", 400), (b"*", 400), (b"/models/%2e%2e", 404)],
)
def test_odd_targets(port: int, target: bytes, status: int) -> None:
    problem(exchange(port, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n"), status)


@pytest.mark.parametrize("host", [b"", b"a b", b"[::1", b"x:99999999", b"\xff"])
def test_odd_hosts(port: int, host: bytes) -> None:
    status, headers, _ = exchange(port, b"GET /healthz HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert status in (200, 400)
    assert headers["content-type"] in ("application/json; charset=utf-8", "application/problem+json")


def test_a_caller_that_leaves_is_noticed(server: tuple[int, Path]) -> None:
    port, log = server
    body = b'{"target": "wait", "texts": []}'
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(JSON_HEAD + b"X-Request-Id: leaver\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 200  # the server is awake meanwhile
    deadline = time.monotonic() + 15
    while (line := _line_of("leaver", log)) is None:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    assert line["status"] == 499


def test_every_line_of_the_log_is_json(server: tuple[int, Path]) -> None:
    _, log = server
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"gunicorn.error", "model_api.requests"} <= {line["logger"] for line in lines}


def _line_of(request_id: str, log: Path) -> dict[str, Any] | None:
    whole = log.read_text().rpartition("\n")[0].splitlines()
    parsed: list[dict[str, Any]] = [json.loads(line) for line in whole]
    return next((line for line in parsed if line.get("id") == request_id), None)


def test_every_concurrent_caller_gets_its_own_answer(port: int) -> None:
    def call(number: int) -> None:
        target, texts = f"caller {number}", [f"{number}/{i}" for i in range(number % 5)]
        body = json.dumps({"target": target, "texts": texts}).encode()
        head = JSON_HEAD + b"X-Request-Id: caller-%d\r\nContent-Length: %d\r\n\r\n" % (number, len(body))
        status, headers, answer = exchange(port, head, body)
        assert (status, headers["x-request-id"]) == (200, f"caller-{number}")
        assert json.loads(answer)["context"] == {
            "target": target,
            "texts": texts,
            "sims": [share(target, text) for text in texts],
        }

    with ThreadPoolExecutor(64) as callers:
        assert len(list(callers.map(call, range(256)))) == 256


ASK = JSON_HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(SIM), SIM)


def read_answer(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Status line and body of the next answer."""
    status = stream.readline()
    headers = dict(line.lower().split(b": ", 1) for line in iter(stream.readline, b"\r\n"))
    return status, stream.read(int(headers.get(b"content-length", b"0")))


def test_requests_sent_ahead_are_answered_in_order(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as stream:
        connection.sendall(ASK + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + ASK + ASK[:-5])
        bodies = [read_answer(stream)[1] for _ in range(3)]
        connection.sendall(ASK[-5:])
        bodies.append(read_answer(stream)[1])
    assert [b"sims" in body for body in bodies] == [True, False, True, True]


def test_too_many_requests_sent_ahead_are_refused(port: int) -> None:
    problem(exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000), 400)


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
def test_an_offer_of_another_protocol_is_passed_over(port: int, upgrade: bytes) -> None:
    offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\nUpgrade: " + upgrade + b"\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(ASK.replace(b"\r\n", offer, 1))
            status, body = read_answer(stream)
            assert status.startswith(b"HTTP/1.1 200")
            assert b"sims" in body


def test_a_client_that_asks_first_is_told_to_go_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as stream:
        head, _, body = ASK.partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\nExpect: 100-continue\r\n\r\n")
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        connection.sendall(body)
        assert b"sims" in read_answer(stream)[1]


@pytest.mark.parametrize(
    ("method", "path", "content_type", "n_bytes", "status"),
    [
        ("POST", "/sim", "text/plain", 19_000, 415),
        ("POST", "/nowhere", "application/json", 19_000, 404),
        ("PUT", "/sim", "application/json", 19_000, 405),
        ("POST", "/sim", "application/json", 9_000_000, 413),
        ("POST", "/nowhere", "text/plain", 9_000_000, 413),
    ],
)
def test_a_refusal_reaches_who_sends_a_body_first(
    port: int, method: str, path: str, content_type: str, n_bytes: int, status: int
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, b"x" * n_bytes, {"Content-Type": content_type})  # no broken pipe
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["status"]) == (status, status)
    connection.close()


def test_who_sends_what_is_read_as_it_comes_hears_that_the_connection_ends(port: int) -> None:
    """It may be answered before its end; a client that took the connection for a living one would lose a request."""
    head = b"PUT /sim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    for parts in ((head + b"{}",), (head, b"{}")):
        status, headers, _ = exchange(port, *parts, shut=False)
        assert (status, headers["connection"]) == (405, "close")


def test_a_header_can_not_pass_for_another(port: int) -> None:
    head = JSON_HEAD + b"X_Request_Id: forged\r\nX-Request-Id: own\r\n"
    answer = exchange(port, head + b"Content-Length: %d\r\n\r\n" % len(SIM), SIM)
    assert answer[1]["x-request-id"] == "own"


def test_an_old_client_s_connection_ends_with_its_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection, connection.makefile("rb") as stream:
        connection.sendall(ASK.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert b"sims" in read_answer(stream)[1]
        assert stream.read() == b""


def test_kept_alive_connections_never_use_up_the_threads(port: int) -> None:
    """More connections than threads have asked once and may ask again at any moment."""
    ask = JSON_HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(SIM), SIM)
    connections = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(300)]
    try:
        for _ in range(2):
            for connection in connections:
                connection.sendall(ask)
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
                assert b"\r\n\r\n{" in answer  # the body comes with the headers
    finally:
        for connection in connections:
            connection.close()
