"""Messages between the web process and its model processes: a JSON header and raw arrays over a stream socket.

Never pickle. Both ends are this project's own processes on one machine, so bytes are in the machine's order; sizes
are still bounded, so that a broken peer can't make the other allocate without limit.
"""

import math
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

_PREFIX = struct.Struct("=II")  # bytes of header, bytes of arrays
MAX_HEADER_BYTES = 64 * 2**20
MAX_ARRAYS_BYTES = 1 << 30
_DTYPES = {np.dtype(name).str: np.dtype(name) for name in ("int32", "int64", "float32", "uint8")}


class PeerGone(OSError):
    """The other end closed the connection, perhaps in mid-message."""


def pack(header: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]] = ()) -> bytes:
    """One message, as it goes over the socket."""
    shapes = [(array.dtype.str, array.shape) for array in arrays]  # a tenth of the time that dtype.name takes
    head = orjson.dumps({**header, "arrays": shapes})
    body = b"".join([array.tobytes() for array in arrays])  # in C order, whatever the order in memory
    return _PREFIX.pack(len(head), len(body)) + head + body


def send(connection: socket.socket, header: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]] = ()) -> None:
    """Send one message. Raises PeerGone, or TimeoutError if the socket has a timeout."""
    try:
        connection.sendall(pack(header, arrays))
    except (BrokenPipeError, ConnectionResetError) as error:
        raise PeerGone(str(error)) from error


def send_without_waiting(connection: socket.socket, header: Mapping[str, Any]) -> None:
    """Send a small message to a peer that may have stopped reading. Raises OSError if it can't be sent at once."""
    connection.send(pack(header), socket.MSG_DONTWAIT)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
    """Receive one message. Raises PeerGone, TimeoutError, or ValueError for a malformed message."""
    head_bytes, arrays_bytes = _PREFIX.unpack(_receive_exactly(connection, _PREFIX.size))
    if head_bytes > MAX_HEADER_BYTES or arrays_bytes > MAX_ARRAYS_BYTES:
        raise ValueError(f"message of {head_bytes} + {arrays_bytes} bytes is over the limit")
    # One read for both: each lets go of the interpreter's lock, and may wait long to have it again.
    content = memoryview(_receive_exactly(connection, head_bytes + arrays_bytes))
    header = orjson.loads(content[:head_bytes])
    body = content[head_bytes:]
    arrays: list[npt.NDArray[Any]] = []
    offset = 0
    for name, shape in header.pop("arrays"):
        if name not in _DTYPES:
            raise ValueError(f"an array of type {name!r}")
        dtype = _DTYPES[name]
        n_bytes = dtype.itemsize * math.prod(shape)
        arrays.append(np.frombuffer(body[offset : offset + n_bytes], dtype).reshape(shape))
        offset += n_bytes
    if offset != arrays_bytes:
        raise ValueError(f"arrays of {offset} bytes announced, {arrays_bytes} sent")
    return header, arrays


def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytearray:
    buffer = bytearray(n_bytes)
    view = memoryview(buffer)
    got = 0
    while got < n_bytes:
        try:
            n = connection.recv_into(view[got:])
        except ConnectionResetError as error:
            raise PeerGone(str(error)) from error
        if n == 0:
            raise PeerGone("closed")
        got += n
    return buffer
