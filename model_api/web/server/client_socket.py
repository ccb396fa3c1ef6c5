"""A client's connection that lets go of the interpreter's lock less often.

Every call into the system does so, and under load the lock may take long to come back (measured: twenty thread
switches a request). gunicorn and the edge change the timeout five times a request, nearly always for a read that finds
its bytes in memory; and a response goes out in two writes.
"""

import socket
from typing import Any

MAX_HELD_BYTES = 1 << 16


class ClientSocket(socket.socket):
    """The timeout takes effect at the next read or write. What `sendall` is given goes out at `flush`, at the next
    read, or once there is much of it.

    One thread at a time; `flush` before another one has it.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Takes over the descriptor of `connection`, which is of no use afterwards."""
        super().__init__(connection.family, connection.type, connection.proto, fileno=connection.detach())
        super().settimeout(None)  # the descriptor keeps the mode that it had: make it a known one
        self._effective_timeout_s: float | None = None
        self._timeout_s: float | None = None
        self._held = bytearray()

    def settimeout(self, value: float | None) -> None:
        self._timeout_s = value

    def gettimeout(self) -> float | None:
        return self._timeout_s

    def setblocking(self, flag: bool) -> None:
        self._timeout_s = None if flag else 0.0

    def flush(self) -> None:
        """Send what is held. Raises OSError, and then it is gone."""
        if self._held:
            held, self._held = self._held, bytearray()
            self._apply_timeout()
            super().sendall(held)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            self.flush()

    def send(self, data: Any, flags: int = 0) -> int:
        self.flush()
        self._apply_timeout()
        return super().send(data, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        self.flush()
        self._apply_timeout()
        return super().sendfile(file, offset, count)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        self.flush()
        self._apply_timeout()
        return super().recv(bufsize, flags)

    def _apply_timeout(self) -> None:
        if self._timeout_s != self._effective_timeout_s:
            super().settimeout(self._timeout_s)
            self._effective_timeout_s = self._timeout_s
