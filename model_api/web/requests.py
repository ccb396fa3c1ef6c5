"""The request as this API reads it: its id, its caller, its JSON body. One object per request, on its own thread."""

import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import flask
from flask import current_app
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from model_api.errors import InvalidInput, MalformedRequest, UnknownModel
from model_api.history.entries import clean
from model_api.history.opening import History
from model_api.jobs.start import Jobs
from model_api.repository.manifest import NAME_PATTERN
from model_api.serving.calls import (
    UNGUARDED,
    Answer,
    CallContext,
    Guard,
    ModelService,
    Origin,
    StreamingService,
)
from model_api.serving.heavy_work import heavy_work
from model_api.settings import Settings
from model_api.web.callers import ANONYMOUS, Caller, caller_of, client_address
from model_api.web.compression import InflatesTooFar, inflate
from model_api.web.json_bodies import parse_object
from model_api.web.metrics import Metrics

REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,128}")
JSON_TYPE_PATTERN = re.compile(r"application/(?:[a-z0-9!#$&^_.-]+\+)?json")
UTF8_NAMES = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
_ADDRESS = re.compile(f"{NAME_PATTERN.pattern}(?:@{NAME_PATTERN.pattern})?")


class ApiRequest(flask.Request):
    """Flask's request with this API's reading of it. `answer` is noted by a route for the headers and the log."""

    answer: Answer | None = None
    caller: Caller = ANONYMOUS  # this and the next: once security/gate.py has looked
    guard: Guard = UNGUARDED
    limit_headers: tuple[tuple[str, str], ...] = ()
    body_bytes = 0  # once it is read

    def __init__(self, environ: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        self.received_s = time.perf_counter()
        environ["PATH_INFO"] = environ.get("PATH_INFO") or "/"  # else the framework redirects, with an HTML page
        super().__init__(environ, *args, **kwargs)

    @cached_property
    def id(self) -> str:
        """The caller's own X-Request-Id where it is harmless in a log, else a fresh one."""
        given = self.environ.get("HTTP_X_REQUEST_ID", "")
        return given if REQUEST_ID_PATTERN.fullmatch(given) else secrets.token_hex(12)

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.received_s) * 1000

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:
        """The body, a JSON object. Raises UnsupportedMediaType, MalformedRequest, InvalidInput or what reading raises.

        The arguments are the base class's; flask-openapi3 calls it with silent=True, and no error is ever silent.
        """
        self._check_content_type()
        raw = self._read_body()
        with heavy_work(len(raw), self.deadline()):
            body = parse_object(self._plain(raw))
        if not isinstance(body, dict):
            raise InvalidInput("the body must be a JSON object", "")
        return body

    def get_bytes(self) -> bytes:
        """The body as it was meant, of whatever type. Raises UnsupportedMediaType, MalformedRequest or what reading
        raises."""
        self._check_content_encoding()
        raw = self._read_body()
        with heavy_work(len(raw), self.deadline()):
            return self._plain(raw)

    def _plain(self, raw: bytes) -> bytes:
        plain = self._inflated(raw) if self._content_encoding() == "gzip" else raw
        self.body_bytes = len(plain)
        return plain

    def _content_encoding(self) -> str:
        return str(self.environ.get("HTTP_CONTENT_ENCODING", "")).strip().lower().replace("x-gzip", "gzip")

    def _inflated(self, body: bytes) -> bytes:
        """The limit counts what comes out: a kilobyte may hold a megabyte."""
        settings: Settings = current_app.extensions["model_api_settings"]
        try:
            return inflate(body, settings.max_body_bytes)
        except InflatesTooFar:
            raise RequestEntityTooLarge from None

    def _check_content_encoding(self) -> None:
        if self._content_encoding() not in ("", "identity", "gzip"):
            raise UnsupportedMediaType("the body may be compressed by gzip, and by nothing else")

    def _check_content_type(self) -> None:
        self._check_content_encoding()
        if self.environ.get("CONTENT_TYPE") == "application/json":
            return  # what nearly everybody sends needs no parsing
        if not JSON_TYPE_PATTERN.fullmatch(self.mimetype):
            raise UnsupportedMediaType("the body must be JSON, sent with Content-Type: application/json")
        if self.mimetype_params.get("charset", "").strip().lower() not in UTF8_NAMES:
            raise UnsupportedMediaType("the body must be JSON in UTF-8")

    def _read_body(self) -> bytes:
        """The whole body, or an error. This project's own server hands over whole bodies only; another's stream may end
        silently at a break."""
        settings: Settings = current_app.extensions["model_api_settings"]
        announced = self.content_length
        if announced is None and not self.environ.get("wsgi.input_terminated"):
            return b""
        wanted = settings.max_body_bytes + 1 if announced is None else announced
        if wanted > settings.max_body_bytes + 1:
            raise RequestEntityTooLarge
        try:
            body: bytes = self.environ["wsgi.input"].read(wanted)
        except Exception as error:  # the server's own types for a broken transfer: they differ by server
            raise MalformedRequest("the body could not be read to its end") from error
        if len(body) > settings.max_body_bytes:
            raise RequestEntityTooLarge
        if announced is not None and len(body) < announced:
            raise MalformedRequest(f"the body ended after {len(body)} of {announced} bytes")
        return body

    def deadline(self) -> float:
        """In seconds of time.monotonic()."""
        settings: Settings = current_app.extensions["model_api_settings"]
        return time.monotonic() + settings.request_timeout_s - self.elapsed_ms / 1000

    def context(self) -> CallContext:
        """Who asks and until when, for the service."""
        settings: Settings = current_app.extensions["model_api_settings"]
        peer = str(self.environ.get("REMOTE_ADDR") or "unknown")
        address = client_address(peer, self.environ.get("HTTP_X_FORWARDED_FOR", ""), settings.proxy_hops)
        return CallContext(
            deadline=self.deadline(),
            caller=self.caller.id or caller_of(address),
            canary_key=self.environ.get("HTTP_X_CANARY_KEY") or address,
            has_left=departure_check(self.environ.get("gunicorn.socket")),
            size_bytes=self.body_bytes,
            guard=self.guard,
            no_cache="no-cache" in self.environ.get("HTTP_CACHE_CONTROL", "").lower(),
            origin=self.call_origin(),
        )

    def call_origin(self) -> Origin:
        """What X-Source, X-User and X-Topic say, as far as it can be kept: a history never fails a prediction."""
        source, user, topic = (self.environ.get(f"HTTP_X_{name}") for name in ("SOURCE", "USER", "TOPIC"))
        caller = self.caller.id or None
        if source is None and user is None and topic is None and caller is None:
            return _UNTOLD
        return Origin(_name(source, 64) or _UNTOLD.source, _name(user, 128), _name(topic, 128), caller)


_UNTOLD = Origin(source="api")


def _name(header: str | None, max_chars: int) -> str | None:
    """UTF-8, which headers carry as Latin-1."""
    if not header:
        return None
    return clean(header.encode("latin-1", "replace").decode("utf-8", "replace"), max_chars) or None


def current_request() -> ApiRequest:
    """The request itself, not Flask's proxy for it: each use of the proxy costs a look-up."""
    return cast(ApiRequest, flask.request._get_current_object())  # type: ignore[attr-defined]


def current_service() -> ModelService:
    return cast(ModelService, current_app.extensions["model_api"])


def current_streams() -> StreamingService:
    return cast(StreamingService, current_app.extensions["model_api"])


def current_jobs() -> Jobs:
    return cast(Jobs, current_app.extensions["model_api_jobs"])


def current_history() -> History:
    return cast(History, current_app.extensions["model_api_history"])


def own_origin() -> str:
    """How the caller reached this server: https where a trusted proxy says so."""
    request = current_request()
    settings: Settings = current_app.extensions["model_api_settings"]
    forwarded = request.headers.get("X-Forwarded-Proto", "") if settings.proxy_hops else ""
    scheme = forwarded if forwarded in ("http", "https") else request.scheme
    return f"{scheme}://{request.host}"


def current_owner() -> str:
    """Whose jobs the caller sees: its key's id; "" for those who have none, who aren't told apart."""
    return current_request().caller.id


def current_metrics() -> Metrics:
    return cast(Metrics, current_app.extensions["model_api_metrics"])


def departure_check(connection: object) -> Callable[[], bool]:
    """A function that tells, without blocking or consuming anything, whether the client closed its connection.

    Only a plain socket can be asked; without one (another server, TLS) nobody ever counts as gone.
    """
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return _never

    def has_left() -> bool:
        try:
            return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True

    return has_left


def _never() -> bool:
    return False


def checked_address(model: str) -> str:
    """`name`, `name@version` or `name@canary`; what can't be one names no model. Raises UnknownModel."""
    if not _ADDRESS.fullmatch(model):
        raise UnknownModel(model[:64])
    return model
