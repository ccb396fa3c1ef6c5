"""One client's connection: what of a request has come, what of an answer hasn't gone, and how long either may take."""

import contextlib
import select
import socket
import time

from model_api.serving.turnstile import leave_early
from model_api.web.server.incoming import IncomingRequest, RequestReader
from model_api.web.server.refusals import Refusal

RECV_BYTES = 1 << 18
RECV_FRAMED_BYTES = 1 << 14  # of what must be parsed: tiny chunks cost a hundred times what their bytes cost
HIGH_WATER_BYTES = 1 << 18  # a streamed answer waits for its reader when so much hasn't gone
MIN_BYTES_PER_S = 1 << 14  # of a body or an answer, past its first seconds


class TooSlow(TimeoutError):
    """The client reads, or sends, more slowly than is waited for."""


class Connection:
    """Owned by one thread at a time: the worker's main thread, or the one that answers its request.

    `deadline` is in seconds of time.monotonic(): when the main thread gives up what it waits for.
    """

    def __init__(self, sock: socket.socket, peer: str, caller: str, reader: RequestReader) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self.caller = caller  # who called last; behind a proxy, callers share connections
        self.peer_caller = caller  # under whose name the connection itself is counted
        self.reader = reader
        self.unsent = bytearray()
        self.reserved_bytes = 0  # of the budget for all that is unsent
        self.events = 0  # what the main thread waits for
        self.deadline = 0.0
        self.looked_at_by = float("inf")  # deadlines.py's
        self.discarding = False  # refused: what still comes is read and dropped
        self.discarded_bytes = 0
        self.keep_alive = True
        self.gone = False  # its answer could not be sent
        self.refusal: Refusal | None = None  # of what came while a thread waited for it
        self.began = time.monotonic()  # the request that is coming, or the answer that is going
        self.moved_bytes = 0  # of its body, or of the answer

    @property
    def in_transfer(self) -> bool:
        """Whether much is coming or going, rather than a request's first bytes, or a refused one's last."""
        coming = self.discarded_bytes > RECV_BYTES if self.discarding else self.reader.in_body
        return coming or bool(self.unsent)

    def receive(self) -> bytes | None:
        """What has come; None if nothing has, b"" at the end. Raises OSError if the client is gone."""
        request = self.reader.request
        plain = self.discarding or (self.reader.in_body and request is not None and not request.chunked)
        try:
            return self.sock.recv(RECV_BYTES if plain else RECV_FRAMED_BYTES)
        except (BlockingIOError, InterruptedError):
            return None

    def feed(self, data: bytes) -> None:
        """Some more of its requests. Raises RequestRefused."""
        if self.reader.request is None:
            self.began = time.monotonic()
        self.reader.feed(data)
        self.moved_bytes = self.reader.request.body_bytes if self.reader.request is not None else 0

    def next_request(self) -> IncomingRequest | None:
        return self.reader.complete.popleft() if self.reader.complete else None

    def send(self, data: bytes) -> None:
        """Send at once what the kernel takes, keep the rest. Raises OSError if the client is gone."""
        if self.unsent:
            self.unsent += data
            return
        sent = self._send(data)
        if sent < len(data):
            self.unsent += memoryview(data)[sent:]
            self.began, self.moved_bytes = time.monotonic(), 0

    def flush(self) -> bool:
        """Send more of what is unsent; whether all has gone. Raises OSError."""
        while self.unsent:
            sent = self._send(memoryview(self.unsent)[:RECV_BYTES])
            if not sent:
                return False
            del self.unsent[:sent]
            self.moved_bytes += sent
        return True

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def send_streaming(self, data: bytes, patience_s: float) -> None:
        """As `send`; but wait for a reader that is behind. Raises TooSlow past what is waited for."""
        self.send(data)
        if len(self.unsent) <= HIGH_WATER_BYTES:
            return
        writable = select.poll()
        writable.register(self.sock, select.POLLOUT)
        while not self.flush() and len(self.unsent) > HIGH_WATER_BYTES // 2:
            left_s = self.due(patience_s) - time.monotonic()
            if left_s <= 0 or not writable.poll(left_s * 1e3):
                raise TooSlow("the client reads too slowly")

    def read_streamed(self, request: IncomingRequest, n_bytes: int, patience_s: float) -> bytes:
        """Up to `n_bytes` more of a streamed body, b"" at its end. Waits for the client.

        Raises TooSlow past what is waited for, OSError for a client that is gone, RequestRefused for what isn't HTTP.
        """
        readable = select.poll()
        readable.register(self.sock, select.POLLIN)
        while not request.body and not request.whole:
            leave_early()
            left_s = self.due(patience_s) - time.monotonic()
            if left_s <= 0 or not readable.poll(left_s * 1e3):
                raise TooSlow("the client sends too slowly")
            data = self.receive()
            if data == b"":
                raise ConnectionError("the client is gone")
            if data:
                self.reader.feed(data)
                self.moved_bytes += len(data)
        piece = bytes(request.body[:n_bytes])
        del request.body[:n_bytes]
        return piece

    def due(self, patience_s: float) -> float:
        """When what is coming or going has taken too long: `patience_s`, and more for what has moved meanwhile."""
        return self.began + patience_s + self.moved_bytes / MIN_BYTES_PER_S

    def abort(self) -> None:
        """Close, and forget what the kernel still holds for the client."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()
