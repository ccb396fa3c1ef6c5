"""Whether the caller is still there."""

import socket
import ssl

import pytest

from model_api.web.requests import departure_check


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
