"""Who the caller is, and whether it is still there."""

import socket
import ssl
from typing import Any

import pytest

from model_api.web.requests import client_address, departure_check


@pytest.mark.parametrize(
    ("forwarded", "hops", "expected"),
    [
        (None, 0, "10.0.0.9"),
        ("1.1.1.1", 0, "10.0.0.9"),
        (None, 1, "10.0.0.9"),
        ("1.1.1.1", 1, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1", 1, "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1, 10.0.0.2", 2, "1.1.1.1"),
        ("1.1.1.1", 2, "10.0.0.9"),
        ("1.1.1.1:4711", 1, "1.1.1.1"),
        ("2001:DB8::1", 1, "2001:db8::1"),
        ("[2001:db8::1]:443", 1, "2001:db8::1"),
        ("<script>", 1, "10.0.0.9"),
        (",", 1, "10.0.0.9"),
        ("1.1.1.1,", 1, "10.0.0.9"),
    ],
)
def test_the_caller_can_not_invent_its_address(forwarded: str | None, hops: int, expected: str) -> None:
    environ: dict[str, Any] = {"REMOTE_ADDR": "10.0.0.9"}
    if forwarded is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded
    assert client_address(environ, hops) == expected


def test_a_caller_without_an_address() -> None:
    assert client_address({}, 0) == client_address({"REMOTE_ADDR": ""}, 1) == "unknown"


def test_a_closed_connection_counts_as_left_and_nothing_is_consumed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        has_left = departure_check(ours)
        assert not has_left()
        theirs.sendall(b"GET")
        assert not has_left()
        assert ours.recv(10) == b"GET"
        theirs.close()
        assert has_left()
    assert has_left()  # our own end is closed too


@pytest.mark.parametrize("connection", [None, object()])
def test_nobody_has_left_where_the_socket_is_unknown(connection: object) -> None:
    assert not departure_check(connection)()


def test_nobody_has_left_over_tls() -> None:
    ours, theirs = socket.socketpair()
    context = ssl.create_default_context()
    with theirs, context.wrap_socket(ours, server_hostname="x", do_handshake_on_connect=False) as wrapped:
        theirs.close()
        assert not departure_check(wrapped)()
