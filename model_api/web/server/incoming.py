"""From bytes to whole requests, within limits; an upload's body alone is handed on as it comes.

llhttp (httptools) parses; it is strict about what proxies and servers have understood differently: two lengths, a
length beside chunks, folded headers, bare line feeds.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

import httptools

from model_api.web.server import refusals
from model_api.web.server.refusals import Refusal, RequestRefused

MAX_TARGET_BYTES = 4094
MAX_HEADERS = 100
MAX_HEADER_BYTES = 8190
MAX_HEAD_BYTES = 1 << 16
MAX_FRAMING_BYTES = 1 << 16  # of a chunked body, with nothing of the body among them: sizes, extensions, trailers
MAX_BLANKS = 64  # in a row, in a header: no client sends more, and a parser's time may grow with their square
MAX_AHEAD = 32  # requests that a client may send before it has read the answer to the first
# Uploads, which may be larger than memory.
STREAMED_METHOD = "PUT"
STREAMED_POST = b"/v1/files"
SMALL_BODY_BYTES = 1 << 14  # so much is not worth counting

_TOO_MANY_BLANKS = b" " * (MAX_BLANKS + 1)
_KEYS: dict[bytes, str] = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_MAX_KEYS = 1000


@dataclass(eq=False, slots=True)
class IncomingRequest:
    """One request as it came; `body` is whole once the reader lists it as complete."""

    target: bytes = b""
    method: str = ""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # names in lower case
    forwarded: str = ""  # X-Forwarded-For
    body: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    reserved_bytes: int = 0  # of the budget for all bodies together
    keep_alive: bool = True
    streamed: bool = False  # handed out when its headers are there; its body is read as it comes
    whole: bool = False
    expects_continue: bool = False
    chunked: bool = False

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def environ(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """The WSGI environment, with `base` in it. The body is handed over: call it once."""
        path, _, query = self.target.partition(b"?")
        if b"%" in path:
            path = unquote_to_bytes(path)
        environ = {
            **base,
            "REQUEST_METHOD": self.method,
            "PATH_INFO": path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "RAW_URI": self.target.decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "wsgi.input": BytesIO(self.body),
        }
        if not self.streamed:
            self.body = bytearray()
        for name, value in self.headers:
            # No header may pass for another: X_Real_Ip would read as X-Real-Ip.
            if b"_" in name:
                continue
            key = _KEYS.get(name) or _key(name)
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
        if not self.streamed:
            environ["CONTENT_LENGTH"] = str(self.body_bytes)
        return environ


def _key(name: bytes) -> str:
    key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
    if len(_KEYS) < _MAX_KEYS:
        _KEYS[name] = key
    return key


def _without_offer(request: IncomingRequest) -> bytes:
    """The head of a request that offers another protocol, without the offer."""
    lines = [f"{request.method} ".encode() + request.target + f" HTTP/{request.version}".encode()]
    lines += [name + b": " + value for name, value in request.headers if name not in (b"connection", b"upgrade")]
    if not request.keep_alive:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


class RequestReader:
    """One connection's requests. `complete` holds those that are whole, in order."""

    def __init__(self, max_body_bytes: int, admit: Callable[[IncomingRequest, int], bool]) -> None:
        """`admit(request, n_bytes)` says whether there is room for so many bytes of its body."""
        self.complete: deque[IncomingRequest] = deque()
        self.request: IncomingRequest | None = None  # begun, not whole
        self.in_body = False
        self._max_body_bytes = max_body_bytes
        self._admit = admit
        self._head_bytes = 0
        self._framing_bytes = 0  # since something of the body came
        self._body_came = False
        self._refusal: Refusal | None = None
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Raises RequestRefused, after which the connection is of no more use."""
        self._body_came = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Nothing here is worth another protocol; HTTP/1.1 goes on. The parser stopped before the body.
            offered = self.complete.pop()
            self._parser = httptools.HttpRequestParser(self)
            self.feed(_without_offer(offered) + data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            if self.complete and not self.complete[-1].keep_alive:
                return  # what follows a last request
            raise RequestRefused(self._refusal or refusals.NOT_HTTP) from error
        if self.request is not None and not self.in_body:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise RequestRefused(refusals.HEAD_TOO_LARGE)
        elif self.request is not None and self.request.chunked:
            self._framing_bytes = 0 if self._body_came else self._framing_bytes + len(data)
            if self._framing_bytes > MAX_FRAMING_BYTES:
                raise RequestRefused(refusals.FRAMING_TOO_LARGE)

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        raise RequestRefused(refusal)

    # What httptools calls.

    def on_message_begin(self) -> None:
        self.request = IncomingRequest()
        self.in_body = False
        self._head_bytes = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        assert self.request is not None
        self.request.target += url
        if len(self.request.target) > MAX_TARGET_BYTES:
            self._refuse(refusals.TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self.request is not None
        if self.in_body:
            return  # a trailer: nothing here asks for one, and what came too late to be checked is no header
        headers = self.request.headers
        headers.append((name.lower(), value))
        if len(headers) > MAX_HEADERS or len(name) + len(value) > MAX_HEADER_BYTES:
            self._refuse(refusals.HEAD_TOO_LARGE)
        if _TOO_MANY_BLANKS in value.replace(b"\t", b" "):
            self._refuse(refusals.NOT_HTTP)

    def on_headers_complete(self) -> None:
        request = self.request
        assert request is not None
        request.method = self._parser.get_method().decode()
        request.version = self._parser.get_http_version()
        self._check_target(request)
        length = 0
        for name, value in request.headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if value.strip().lower() != b"chunked":
                    self._refuse(refusals.UNKNOWN_CODING)
                request.chunked = True
            elif name == b"expect":
                if value.strip().lower() != b"100-continue":
                    self._refuse(refusals.UNKNOWN_EXPECTATION)
                request.expects_continue = request.version != "1.0"
            elif name == b"x-forwarded-for":
                request.forwarded += ("," if request.forwarded else "") + value.decode("latin-1")
        if self._parser.should_upgrade():
            return  # it is read again, see feed
        self.in_body = True
        request.streamed = request.method == STREAMED_METHOD or (
            request.method == "POST" and request.path == STREAMED_POST
        )
        if request.streamed:
            self.complete.append(request)
            return
        if length > self._max_body_bytes:
            self._refuse(refusals.BODY_TOO_LARGE)
        self._reserve(request, length)

    def _check_target(self, request: IncomingRequest) -> None:
        if not request.target.startswith(b"/"):
            scheme, _, rest = request.target.partition(b"://")  # as it is sent to a proxy
            if scheme.lower() not in (b"http", b"https"):
                self._refuse(refusals.NOT_HTTP)
            request.target = b"/" + rest.partition(b"/")[2]

    def _reserve(self, request: IncomingRequest, total_bytes: int) -> None:
        """Make sure that `total_bytes` of its body are counted."""
        missing = total_bytes - request.reserved_bytes
        if total_bytes > SMALL_BODY_BYTES and missing > 0:
            if not self._admit(request, missing):
                self._refuse(refusals.NO_MEMORY)
            request.reserved_bytes += missing

    def on_body(self, data: bytes) -> None:
        request = self.request
        assert request is not None
        request.body += data
        self._body_came = True
        if request.streamed:
            return
        request.body_bytes = len(request.body)
        if request.body_bytes > self._max_body_bytes:
            self._refuse(refusals.BODY_TOO_LARGE)
        if request.body_bytes > max(request.reserved_bytes, SMALL_BODY_BYTES):
            self._reserve(request, min(2 * request.body_bytes, self._max_body_bytes))  # chunks: nobody said how many

    def on_message_complete(self) -> None:
        assert self.request is not None
        self.request.keep_alive = self._parser.should_keep_alive()
        self.request.whole = True
        if not self.request.streamed:
            self.complete.append(self.request)
        self.request = None
        self.in_body = False
        if len(self.complete) > MAX_AHEAD:
            self._refuse(refusals.NOT_HTTP)
