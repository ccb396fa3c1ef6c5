"""Beanstalk's nginx with the project's files in it: whatever it refuses itself is application/problem+json."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.rigs.free_port import free_port
from tests.rigs.nginx import nginx, render_limits

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx with nothing behind it."""
    with nginx(tmp_path_factory.mktemp("nginx"), free_port()) as port:
        yield port


def test_garbage_is_a_problem(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 what is this\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    headers, _, body = answer.partition("\r\n\r\n")
    assert "application/problem+json" in headers
    assert json.loads(body)["status"] == 400


def test_no_client_reaches_the_problems_themselves(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/.problem/503")
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["status"]) == (404, 404)
    connection.close()


@pytest.mark.parametrize(
    ("path", "headers", "body", "status"),
    [
        ("/sim", {}, b"x" * 1001, 413),
        ("/" + "x" * 40_000, {}, b"", 414),
        ("/", {"X-Long": "x" * 40_000}, b"", 400),
        ("/healthz", {}, b"", 503),  # nothing listens behind it
    ],
)
def test_refusals_are_problems(port: int, path: str, headers: dict[str, str], body: bytes, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        document = json.loads(response.read())
    finally:
        connection.close()
    assert (response.status, document["status"]) == (status, status)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert (response.headers["Retry-After"] is not None) == (status == 503)


@pytest.mark.parametrize(("given", "kept"), [("my-id_1.2", True), ('a"b', False), ("x" * 129, False)])
def test_nginxs_own_answers_keep_a_harmless_request_id(port: int, given: str, kept: bool) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/healthz", headers={"X-Request-Id": given})
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    assert (document["request_id"] == given) is kept
    assert response.headers.get_all("X-Request-Id") == [document["request_id"]]
    assert response.headers.get_all("Content-Type") == ["application/problem+json"]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: brotli\r\n\r\n", 501),
        # A refusal, and then another of the body behind it.
        (b"TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_rarer_refusals_are_problems_too(port: int, request_bytes: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    headers, _, body = answer.partition("\r\n\r\n")
    assert headers.startswith(f"HTTP/1.1 {status} ")
    assert "application/problem+json" in headers
    assert json.loads(body)["status"] == status


def test_an_application_that_breaks_off_is_told_from_one_that_is_starting(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as application,
        nginx(tmp_path_factory.mktemp("nginx"), application.getsockname()[1]) as port,
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/models")
        taken = application.accept()[0]
        assert taken.recv(1000).startswith(b"GET /models")
        taken.close()
        response = connection.getresponse()
        document = json.loads(response.read())
        connection.close()
    assert (response.status, document["status"]) == (502, 502)
    assert "starting" not in document["detail"]


@pytest.mark.parametrize(
    ("first", "other", "same"),
    [
        ("6.6.6.6, 1.1.1.1", "1.1.1.1, 2.2.2.2", "9.9.9.9, 1.1.1.1"),
        ("2001:db8:1:2::9", "2001:db8:1:3::9", "2001:db8:1:2:ffff:ffff:ffff:ffff"),
    ],
)
def test_a_caller_has_so_many_requests_in_progress(tmp_path: Path, first: str, other: str, same: str) -> None:
    render_limits(tmp_path, {"MODEL_API_PROXY_HOPS": "2"})
    callers = (tmp_path / "nginx/conf.d/callers.conf").read_text()
    assert "callers 512;" in callers
    with (
        socket.create_server(("127.0.0.1", 0)) as never_answers,
        nginx(tmp_path / "run", never_answers.getsockname()[1], callers.replace("callers 512;", "callers 2;")) as port,
        ExitStack() as open_connections,
    ):

        def ask(forwarded: str) -> http.client.HTTPConnection:
            connection = open_connections.enter_context(
                closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10))
            )
            connection.request("GET", "/models", headers={"X-Forwarded-For": forwarded})
            return connection

        for _ in range(2):
            ask(first)
            open_connections.enter_context(never_answers.accept()[0])
        refused = ask(same).getresponse()
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        assert json.loads(refused.read())["status"] == 429
        ask(other)
        open_connections.enter_context(never_answers.accept()[0])  # it got through
