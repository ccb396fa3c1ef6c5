"""Accepting connections. The main thread's."""

import errno
import logging
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

PAUSE_S = 0.5  # when no file can be opened any more
AT_A_TIME = 64
SOCKET_BUFFER_BYTES = 1 << 17  # the kernel's own, per connection and direction; else it lends megabytes to each
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

log = logging.getLogger(__name__)


class Listening:
    """The listening sockets, while they accept."""

    def __init__(
        self,
        listeners: Sequence[Any],
        selector: selectors.BaseSelector,
        accepted: Callable[[socket.socket, str], None],
    ) -> None:
        """`accepted` takes a connection and its peer's address, "" for a local socket."""
        self._listeners = listeners
        self._selector = selector
        self._accepted = accepted
        self._open = False
        self._again_at = 0.0
        for listener in listeners:
            listener.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # what is accepted inherits them
                listener.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)

    def resume(self, now: float) -> None:
        """Accept, unless that failed a moment ago."""
        if not self._open and now >= self._again_at:
            for listener in self._listeners:
                self._selector.register(listener, selectors.EVENT_READ, self._accept)
            self._open = True

    def look(self, at_most: int) -> None:
        """Accept some of who waits now, between two events: a health check doesn't wait for all other connections."""
        if self._open:
            for listener in self._listeners:
                self._accept(listener, at_most)

    def pause(self) -> None:
        if self._open:
            for listener in self._listeners:
                self._selector.unregister(listener)
            self._open = False

    def close(self) -> None:
        self.pause()
        self._again_at = float("inf")
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: Any, at_most: int = AT_A_TIME) -> None:
        for _ in range(at_most):
            try:
                connection, address = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    log.error("no connection can be accepted", extra={"fields": {"error": error.strerror}})
                    self.pause()
                    self._again_at = time.monotonic() + PAUSE_S
                return  # or nobody waits any more
            self._accepted(connection, address[0] if isinstance(address, tuple) else "")
