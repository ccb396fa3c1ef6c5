"""What every answer has in common: JSON by orjson, the headers, CORS, its log line and its metrics."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import flask
import orjson
from flask import Flask
from flask.globals import request_ctx
from flask.json.provider import JSONProvider

from model_api.serving.calls import Answer
from model_api.serving.documents import dump
from model_api.serving.heavy_work import heavy_work
from model_api.web.compression import MIN_BYTES, accepts_gzip, deflate
from model_api.web.logs import log_request
from model_api.web.requests import ApiRequest, current_metrics, current_request

EXPOSED = (
    "X-Request-Id, X-Model, X-Model-Version, X-Model-Digest, X-Model-Precision, X-Model-Min-Cosine, X-Truncated, "
    "Server-Timing, Age, Retry-After, Allow, Location, Content-Location, ETag, Preference-Applied, WWW-Authenticate, "
    "RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy"
)
COMMON_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Expose-Headers", EXPOSED),
    ("Timing-Allow-Origin", "*"),
    ("X-Content-Type-Options", "nosniff"),
)
TAKEN = (
    "Content-Type, Accept, Authorization, X-Api-Key, Cache-Control, X-Canary-Key, X-Request-Id, Prefer, "
    "Idempotency-Key, X-Source, X-User, X-Topic, *"
)
PREFLIGHT_HEADERS = (
    ("Access-Control-Allow-Headers", TAKEN),
    ("Access-Control-Max-Age", "86400"),
)


class ApiResponse(flask.Response):
    """Flask's response. `late_headers` are added as they are, as the last step: no look-ups for what can't be there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.late_headers: list[tuple[str, str]] = []

    def get_wsgi_response(self, environ: Any) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        body, status, headers = super().get_wsgi_response(environ)
        return body, status, [*headers, *self.late_headers]


class OrjsonProvider(JSONProvider):
    """Flask's own JSON, by orjson."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return dump(obj).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> ApiResponse:
        return json_response(self._prepare_response_obj(args, kwargs))


def json_response(value: Any, status: int = 200) -> ApiResponse:
    return ApiResponse(dump(value), status, content_type="application/json; charset=utf-8")


def model_response(value: Any, answer: Answer) -> ApiResponse:
    """The answer of a model: `value` as JSON, and in the headers which weights gave it and how long it took."""
    request = current_request()
    request.answer = answer
    response = json_response(value)
    queue, forward, total = answer.queue_ms, answer.forward_ms, request.elapsed_ms
    response.late_headers += (
        ("X-Model", answer.model),
        ("X-Model-Version", answer.version),
        ("X-Model-Digest", answer.digest),
        ("X-Model-Precision", answer.precision or "unknown"),
        ("Server-Timing", f"queue;dur={queue:.1f}, forward;dur={forward:.1f}, total;dur={total:.1f}"),
    )
    if answer.min_cosine is not None:
        response.late_headers.append(("X-Model-Min-Cosine", f"{answer.min_cosine:.4f}"))
    if answer.age_s is not None:
        response.late_headers.append(("Age", str(answer.age_s)))
    return response


def _finish(response: ApiResponse) -> ApiResponse:
    """The last step of every answer, errors included."""
    request = current_request()
    late = response.late_headers
    late.append(("X-Request-Id", request.id))
    late += COMMON_HEADERS
    late += request.limit_headers
    headers = response.headers
    if "Cache-Control" not in headers:
        late.append(("Cache-Control", "no-store"))
    _compress(request, response)
    if request.method == "OPTIONS":
        late.append(("Access-Control-Allow-Methods", headers.get("Allow", "GET, HEAD, POST, OPTIONS")))
        late += PREFLIGHT_HEADERS
    _record(request, response)
    return response


def _compress(request: ApiRequest, response: ApiResponse) -> None:
    """A large answer, where the caller asks for gzip."""
    if response.is_streamed or response.direct_passthrough or (response.content_length or 0) < MIN_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if "Content-Encoding" not in response.headers and accepts_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", "")):
        with heavy_work(response.content_length or 0, request.deadline()):
            response.set_data(deflate(response.get_data()))
        response.headers["Content-Encoding"] = "gzip"


def _record(request: ApiRequest, response: ApiResponse) -> None:
    duration_ms = request.elapsed_ms
    rule = request.url_rule
    metrics = current_metrics()
    metrics.observe_request(rule.rule if rule else None, request.method, response.status_code)
    fields: dict[str, Any] = {
        "id": request.id,
        "method": request.method[:16],
        "path": request.path[:256],
        "status": response.status_code,
        "duration_ms": round(duration_ms, 2),
        "bytes": response.content_length,
    }
    if request.caller.id:
        fields["caller"] = request.caller.id
    answer = request.answer
    if answer is not None:
        metrics.observe_answer(
            answer.model,
            answer.version,
            seconds=duration_ms / 1000,
            queue_ms=answer.queue_ms,
            forward_ms=answer.forward_ms,
            batch_size=0 if answer.age_s is not None else answer.batch_size,
            n_tokens=answer.n_tokens,
        )
        fields |= {
            "model": answer.model,
            "version": answer.version,
            "batch_size": answer.batch_size,
            "queue_ms": round(answer.queue_ms, 2),
            "forward_ms": round(answer.forward_ms, 2),
        }
    log_request(fields)


def options_response(methods: Iterable[str]) -> ApiResponse:
    response = ApiResponse(status=204)
    del response.headers["Content-Type"]
    response.headers["Allow"] = ", ".join(sorted(methods))
    return response


def _default_options_response() -> ApiResponse:
    adapter = request_ctx.url_adapter
    return options_response(adapter.allowed_methods() if adapter is not None else ())


def register(app: Flask) -> None:
    app.json = OrjsonProvider(app)
    app.make_default_options_response = _default_options_response  # type: ignore[method-assign]
    app.response_class = ApiResponse
    app.after_request(_finish)


def file_response(path: Path) -> ApiResponse:
    """A file of ours, which a browser may keep for an hour."""
    response = cast(ApiResponse, flask.send_file(path, conditional=True))
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response
