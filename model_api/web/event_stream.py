"""An answer that is sent as it grows: server-sent events, one after the other, until it ends or its caller leaves."""

import logging
import time
from collections.abc import Callable, Iterator

from model_api.errors import CallerLeft
from model_api.serving.calls import Answer, GrowingAnswer
from model_api.web.metrics import Metrics
from model_api.web.requests import current_metrics, current_request
from model_api.web.responses import ApiResponse

log = logging.getLogger(__name__)


def event(data: bytes, kind: str = "") -> bytes:
    """`data` without line breaks."""
    return (b"event: %b\n" % kind.encode() if kind else b"") + b"data: %b\n\n" % data


class _Events:
    """What the server sends, on the request's thread, when there is no request any more for Flask."""

    def __init__(self, stream: GrowingAnswer, events: Iterator[bytes], metrics: Metrics, began: float) -> None:
        self._stream, self._events = stream, events
        self._metrics, self._began = metrics, began

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """The server calls it in any case."""
        self._stream.close()
        answer = self._stream.answer
        if answer is not None:
            self._metrics.observe_answer(
                answer.model,
                answer.version,
                seconds=time.perf_counter() - self._began,
                queue_ms=answer.queue_ms,
                forward_ms=answer.forward_ms,
                batch_size=answer.batch_size,
                n_tokens=answer.n_tokens,
            )


def stream_response(
    stream: GrowingAnswer,
    part: Callable[[str], bytes],
    end: Callable[[Answer], Iterator[bytes]],
    failure: Callable[[Exception], bytes],
    begin: bytes = b"",
) -> ApiResponse:
    """`part` is the event of a piece, `end` those of the whole answer, `failure` that of what went wrong on the way:
    the status has been sent long since."""

    def events() -> Iterator[bytes]:
        try:
            if begin:
                yield begin
            for piece in stream:
                yield part(piece)
            assert stream.answer is not None
            yield from end(stream.answer)
        except GeneratorExit:
            raise
        except CallerLeft:
            return
        except Exception as error:
            log.warning("a stream failed", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
            yield failure(error)

    whole = _Events(stream, events(), current_metrics(), current_request().received_s)
    response = ApiResponse(whole, content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"  # nginx passes each event on at once
    version = stream.version
    response.late_headers += (
        ("X-Model", version.name),
        ("X-Model-Version", version.manifest.version),
        ("X-Model-Digest", version.manifest.digest),
        ("X-Model-Precision", version.precision or "unknown"),
    )
    return response
