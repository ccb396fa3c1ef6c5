"""Timeouts and writes that wait for the next call into the system."""

import socket
from collections.abc import Iterator

import pytest

from model_api.web.server.client_socket import MAX_HELD_BYTES, ClientSocket


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)  # as gunicorn leaves it
    theirs.setblocking(False)
    with ClientSocket(ours) as client, theirs:
        yield client, theirs


def received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 20)
    except BlockingIOError:
        return b""


def test_a_response_goes_out_at_once_and_whole(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, peer = pair
    client.sendall(b"head ")
    client.sendall(b"body")
    assert received(peer) == b""
    client.flush()
    assert received(peer) == b"head body"
    client.flush()
    assert received(peer) == b""


def test_a_read_sends_first_what_is_held(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, peer = pair
    peer.sendall(b"question")
    client.sendall(b"answer")
    assert client.recv(100) == b"question"
    assert received(peer) == b"answer"


def test_order_is_kept_by_every_way_of_sending(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, peer = pair
    client.sendall(b"1")
    client.send(b"2")
    client.sendall(b"3")
    client.flush()
    assert received(peer) == b"123"


def test_much_is_not_held(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, peer = pair
    client.sendall(b"x" * (MAX_HELD_BYTES + 1))
    assert len(received(peer)) == MAX_HELD_BYTES + 1


def test_the_last_timeout_counts_when_a_read_has_to_wait(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, _ = pair
    client.settimeout(None)
    client.settimeout(0.01)
    assert client.gettimeout() == 0.01
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_a_peer_that_is_gone_is_told_once(pair: tuple[ClientSocket, socket.socket]) -> None:
    client, peer = pair
    peer.close()
    client.sendall(b"answer")
    with pytest.raises(OSError, match="pipe"):
        client.flush()
    client.flush()
