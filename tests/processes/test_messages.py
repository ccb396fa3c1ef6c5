"""What one process sends the other receives, whole or not at all."""

import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from model_api.processes import messages


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_header_and_arrays_arrive(pair: tuple[socket.socket, socket.socket]) -> None:
    arrays: list[npt.NDArray[Any]] = [
        np.arange(5, dtype=np.int32),
        np.ones((2, 3), dtype=np.float32),
        np.zeros(0, dtype=np.int64),
    ]
    messages.send(pair[0], {"parameters": {"a": 1}}, arrays)
    header, received = messages.receive(pair[1])
    assert header == {"parameters": {"a": 1}}
    assert [(a.dtype, a.shape) for a in received] == [(a.dtype, a.shape) for a in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(arrays, received, strict=True))


def test_an_array_that_is_not_contiguous_arrives_as_it_reads(pair: tuple[socket.socket, socket.socket]) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T
    messages.send(pair[0], {}, [array])
    assert np.array_equal(messages.receive(pair[1])[1][0], array)


def test_a_peer_that_is_gone_is_told(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(b"\x05\x00")
    pair[0].close()
    with pytest.raises(messages.PeerGone):
        messages.receive(pair[1])
    with pytest.raises(messages.PeerGone):
        messages.send(pair[1], {})


def test_an_absurd_size_is_refused_before_anything_is_allocated(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].sendall(struct.pack("=II", 2**31, 0))
    with pytest.raises(ValueError, match="over the limit"):
        messages.receive(pair[1])


def test_sizes_that_do_not_add_up_are_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    head = b'{"arrays":[["<i4",[1]]]}'
    pair[0].sendall(struct.pack("=II", len(head), 8) + head + b"\0" * 8)
    with pytest.raises(ValueError, match="announced"):
        messages.receive(pair[1])


def test_other_types_are_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    head = b'{"arrays":[["|O",[1]]]}'
    pair[0].sendall(struct.pack("=II", len(head), 8) + head + b"\0" * 8)
    with pytest.raises(ValueError, match="type"):
        messages.receive(pair[1])
