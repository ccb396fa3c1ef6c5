"""What the server itself answers, before the application sees a request: problems like all others."""

import logging
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import orjson

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """The server's own answer to what it doesn't hand to the application."""

    status: int
    title: str
    detail: str
    slug: str = ""
    retry_after_s: int | None = None

    @property
    def kind(self) -> str:
        """The last part of its type, and its name in logs and metrics."""
        return self.slug or self.title.lower().replace(" ", "-")


class RequestRefused(Exception):
    """A new one each time: an exception that is kept keeps the frames that it went through, and all that they hold."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


NOT_HTTP = Refusal(400, "Bad Request", "the request could not be read as HTTP")
CUT_OFF = Refusal(
    400, "The body is not a JSON object", "the body ended before its announced length", slug="malformed-request"
)
TARGET_TOO_LONG = Refusal(414, "URI Too Long", "the address is too long")
HEAD_TOO_LARGE = Refusal(431, "Request Header Fields Too Large", "the headers are too many or too long")
FRAMING_TOO_LARGE = Refusal(
    431, "Request Header Fields Too Large", "what is between the chunks of the body, or after them, is too long"
)
BODY_TOO_LARGE = Refusal(413, "Request Entity Too Large", "the body is larger than this server takes")
UNKNOWN_CODING = Refusal(501, "Not Implemented", "this transfer coding is not served; chunked is")
UNKNOWN_EXPECTATION = Refusal(417, "Expectation Failed", "the only expectation served is 100-continue")
TOO_SLOW = Refusal(408, "Request Timeout", "the request didn't arrive in time")
FAILED = Refusal(500, "Internal Server Error", "the server failed; its log has more", slug="internal-error")
NO_THREAD = Refusal(
    503, "Too much is waiting already", "too many requests of yours are in progress", slug="queue-full", retry_after_s=1
)
NO_CONNECTION = Refusal(
    503, "Too much is waiting already", "too many connections are open", slug="queue-full", retry_after_s=1
)
NO_MEMORY = Refusal(
    503, "Too much is waiting already", "too many bytes are on their way already", slug="queue-full", retry_after_s=1
)


def refusal_bytes(refusal: Refusal, *, keep_alive: bool = False, head_only: bool = False) -> bytes:
    """The whole response, with a fresh request id."""
    request_id = secrets.token_hex(12)
    document = {
        "type": f"/problems/{refusal.kind}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        "instance": f"urn:request:{request_id}",
        "request_id": request_id,
    }
    body = orjson.dumps(document)
    retry = "" if refusal.retry_after_s is None else f"Retry-After: {refusal.retry_after_s}\r\n"
    head = (
        f"HTTP/1.1 {refusal.status} {refusal.title}\r\nContent-Type: application/problem+json\r\n"
        f"Content-Length: {len(body)}\r\n{retry}{'' if keep_alive else 'Connection: close' + chr(13) + chr(10)}"
        f"X-Request-Id: {request_id}\r\nAccess-Control-Allow-Origin: *\r\n"
        "Access-Control-Expose-Headers: X-Request-Id, Retry-After\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)


class RefusalCounts:
    """How many refusals of which kind: for the metrics at once, for the log now and then."""

    def __init__(self, for_metrics: Callable[[str], None]) -> None:
        self._for_metrics = for_metrics
        self._lock = threading.Lock()
        self._untold: Counter[str] = Counter()
        self._told_at = 0.0

    def count(self, what: str) -> None:
        """Any thread. `what` is one of a few words."""
        with self._lock:
            self._untold[what] += 1
        self._for_metrics(what)

    def tell(self, now: float) -> None:
        """One line for all since the last, at most once a second."""
        if self._untold and now > self._told_at + 1.0:
            self._told_at = now
            with self._lock:
                told, self._untold = self._untold, Counter()
            log.warning("refused", extra={"fields": dict(told)})
