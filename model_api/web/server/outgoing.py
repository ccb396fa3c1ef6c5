"""From a WSGI application's answer to bytes on a connection."""

import time
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from model_api.web.server.incoming import IncomingRequest

NO_BODY = ("204", "304")
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "trailer", "te"})

Headers = list[tuple[str, str]]
Send = Callable[[bytes], None]


class OutgoingResponse:
    """The answer to one request. One thread. Nothing is sent before the first piece of the body is there."""

    def __init__(self, request: IncomingRequest, send: Send, *, keep_alive: bool) -> None:
        """`send` takes bytes in order, may block, and raises OSError for a client that is gone."""
        self._request = request
        self._send = send
        self._status = ""
        self._headers: Headers = []
        self.keep_alive = keep_alive
        self.begun = False
        self._chunked = False

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Callable[[bytes], None]:
        """WSGI's."""
        if exc_info is not None and self.begun:
            raise exc_info[1].with_traceback(exc_info[2])
        if self._status and exc_info is None:
            raise RuntimeError("start_response was called twice")
        self._status, self._headers = status, headers
        return self.write

    def run(self, application: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        """Raises what the application raises, and OSError for a client that is gone or too slow."""
        pieces = application(environ, self.start_response)
        try:
            for piece in pieces:
                if piece:
                    self.write(piece)
            self._end()
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()

    def write(self, piece: bytes) -> None:
        if self._request.method == "HEAD" or self._status[:3] in NO_BODY:
            return
        framed = piece
        head = b"" if self.begun else self._head()
        if self._chunked:
            framed = b"%x\r\n%b\r\n" % (len(piece), piece)
        self._send(head + framed if head else framed)

    def _end(self) -> None:
        if not self.begun:
            self._send(self._head())
        if self._chunked:
            self._send(b"0\r\n\r\n")

    def _head(self) -> bytes:
        if not self._status:
            raise RuntimeError("the application gave no status")
        self.begun = True
        lines = [f"HTTP/1.1 {self._status}"]
        has_length = False
        for name, value in self._headers:
            lowered = name.lower()
            if lowered in _HOP_BY_HOP:
                continue
            has_length = has_length or lowered == "content-length"
            lines.append(f"{name}: {value}")
        no_body = self._request.method == "HEAD" or self._status[:3] in NO_BODY
        if not has_length and not no_body:
            self._chunked = self._request.version != "1.0"
            if self._chunked:
                lines.append("Transfer-Encoding: chunked")
            else:
                self.keep_alive = False
        lines.append(f"Date: {_date()}")
        if not self.keep_alive:
            lines.append("Connection: close")
        elif self._request.version == "1.0":
            lines.append("Connection: keep-alive")
        head = "\r\n".join(lines) + "\r\n\r\n"
        if head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1 or "\0" in head:
            raise ValueError("a header of the answer holds a line break")
        return head.encode("latin-1")


_now: tuple[int, str] = (0, "")


def _date() -> str:
    """Now, as HTTP writes it; put together once a second."""
    global _now
    second = int(time.time())
    if _now[0] != second:
        _now = (second, formatdate(second, usegmt=True))
    return _now[1]
