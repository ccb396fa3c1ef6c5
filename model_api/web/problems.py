"""Exception -> HTTP: the one table, and the Flask handler that turns every error into application/problem+json.

RFC 9457, with `request_id` and, for bodies, `errors`: a list of {"pointer", "detail"} with RFC 6901 pointers.
"""

import difflib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import orjson
from flask import Flask
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from model_api import errors
from model_api.web import history_schemas, job_schemas, schemas
from model_api.web.requests import current_request
from model_api.web.responses import ApiResponse, options_response

LOGGER = logging.getLogger("model_api.web.problems")
MAX_POINTER_CHARS = 256
MAX_ERRORS = 16
_SHAPES = (schemas, job_schemas, history_schemas)


@dataclass(frozen=True)
class Row:
    """How one type of error is told. `retry_after_s` becomes Retry-After: when asking again makes sense."""

    status: int
    slug: str
    title: str
    retry_after_s: int | None = None


ROWS: Mapping[type[Exception], Row] = {
    errors.MalformedRequest: Row(400, "malformed-request", "The body is not a JSON object"),
    errors.InvalidInput: Row(422, "invalid-input", "A value of the body can't be served"),
    errors.Unauthenticated: Row(401, "unauthenticated", "A key is wanted"),
    errors.Forbidden: Row(403, "forbidden", "The key isn't for this"),
    errors.TooManyRequests: Row(429, "too-many-requests", "More than the key may have", retry_after_s=1),
    errors.KeysUnknown: Row(503, "keys-unknown", "Who may call can't be read", retry_after_s=5),
    errors.UnknownModel: Row(404, "unknown-model", "No such model"),
    errors.VersionNotLoaded: Row(404, "version-not-loaded", "That version is not loaded here"),
    errors.ModelRefused: Row(404, "model-refused", "The model can't be served"),
    errors.UnknownJob: Row(404, "unknown-job", "No such job"),
    errors.JobUnfinished: Row(409, "job-unfinished", "The job is not over", retry_after_s=1),
    errors.JobOver: Row(409, "job-over", "The job is over already"),
    errors.JobFailed: Row(422, "job-failed", "The job failed"),
    errors.JobCancelled: Row(410, "job-cancelled", "The job was cancelled"),
    errors.JobExpired: Row(410, "job-expired", "The job has expired"),
    errors.IdempotencyKeyReused: Row(422, "idempotency-key-reused", "The Idempotency-Key came with other work before"),
    errors.JobsDown: Row(503, "jobs-down", "Jobs can't be kept now", retry_after_s=5),
    errors.JobsFull: Row(503, "jobs-full", "Too many jobs are waiting already", retry_after_s=5),
    errors.WorkerVanished: Row(503, "worker-vanished", "The worker died or hung"),
    errors.NotSigned: Row(403, "not-signed", "The address is not, or no longer, good"),
    errors.UnknownUpload: Row(404, "unknown-upload", "No such upload"),
    errors.UploadConflict: Row(409, "upload-conflict", "The upload came already, or hasn't come yet"),
    errors.UploadExpired: Row(410, "upload-expired", "The upload didn't come in time"),
    errors.UploadRefused: Row(422, "upload-refused", "The bytes are not what was announced"),
    errors.UnknownPrediction: Row(404, "unknown-prediction", "No such prediction in the history"),
    errors.DatabaseDown: Row(503, "database-down", "The history can't be kept or read now", retry_after_s=5),
    errors.QueueFull: Row(503, "queue-full", "Too much is waiting already", retry_after_s=1),
    errors.DeadlineExceeded: Row(504, "deadline-exceeded", "No answer within the time limit"),
    errors.ModelNotReady: Row(503, "model-not-ready", "The model is not loaded", retry_after_s=5),
    errors.LaneFailed: Row(503, "lane-failed", "The model process died under the request", retry_after_s=1),
    errors.ForwardFailed: Row(500, "forward-failed", "The model failed on this input"),
    errors.VideoUnavailable: Row(503, "video-unavailable", "Videos can't be decoded here"),
    errors.CacheDown: Row(503, "cache-down", "The result cache is out of reach", retry_after_s=5),
    errors.CallerLeft: Row(499, "caller-left", "Client Closed Request"),
    errors.RepositoryUnavailable: Row(
        503, "repository-unavailable", "The shared file system is out of reach", retry_after_s=5
    ),
}
UNEXPECTED = Row(500, "internal-error", "Internal Server Error")
# What to tell about errors that the framework finds; for others its own, fixed description is told.
HTTP_DETAILS: Mapping[int, str] = {
    404: "no such route; /openapi.json lists all of them",
    405: "this route doesn't take that method; the Allow header lists those it takes",
    413: "the body is larger than this server takes",
    500: "the server failed; its log has the cause under this request_id",
}


class InvalidBody(Exception):
    """The body doesn't have the route's shape; `places` are (pointer, detail) of each finding."""

    def __init__(self, places: Sequence[tuple[str, str]]) -> None:
        super().__init__(places[0][1] if places else "")
        self.places = places


def row_of(kind: type[BaseException]) -> Row:
    """The row of the nearest type in the exception's ancestry."""
    return next((ROWS[base] for base in kind.__mro__ if base in ROWS), UNEXPECTED)


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901. One that would be absurdly long (a caller's own key) ends at the parent."""
    parts = ["/" + str(part).replace("~", "~0").replace("/", "~1") for part in location]
    while sum(map(len, parts)) > MAX_POINTER_CHARS:
        parts.pop()
    return "".join(parts)


def raise_invalid_body(error: ValidationError) -> None:
    """flask-openapi3 calls it when a body, checked by pydantic, doesn't fit. Values are never quoted."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    kind = next((vars(m)[error.title] for m in _SHAPES if error.title in vars(m)), schemas.Body)
    known = list(kind.model_fields)
    raise InvalidBody([(pointer(f["loc"]), _finding(f, known)) for f in found[:MAX_ERRORS]])


def _finding(found: Any, known: Iterable[str]) -> str:
    """One of pydantic's findings in our words."""
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(found["loc"][-1])[:64], known, n=1)
        return f"no such key; did you mean {near[0]!r}?" if near else f"no such key; there are {', '.join(known)}"
    message = str(found["msg"])
    return message[:1].lower() + message[1:]


def described(error: Exception) -> dict[str, Any]:
    """The problem document of what ended a job, where there is no request to answer."""
    row = row_of(type(error))
    document = {"type": f"/problems/{row.slug}", "title": row.title, "status": row.status}
    if row is UNEXPECTED:
        return {**document, "detail": "the server failed; its log has the cause"}
    if isinstance(error, errors.InvalidInput):
        document["errors"] = [{"pointer": error.pointer, "detail": str(error)}]
    return {**document, "detail": str(error)}


def problem(row: Row, detail: str, extra: Mapping[str, Any] | None = None) -> ApiResponse:
    """An application/problem+json response to the request at hand."""
    request = current_request()
    document: dict[str, Any] = {
        "type": f"/problems/{row.slug}",
        "title": row.title,
        "status": row.status,
        "detail": detail,
        "instance": quote(request.path[:MAX_POINTER_CHARS]),
        "request_id": request.id,
        **(extra or {}),
    }
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError:  # a lone surrogate in a detail
        body = orjson.dumps({**document, "detail": ascii(detail)})
    status = f"{row.status} {row.title}" if row.status == 499 else row.status
    response = ApiResponse(body, status, content_type="application/problem+json")
    if row.retry_after_s is not None:
        response.headers["Retry-After"] = str(row.retry_after_s)
    return response


def challenge(fetch_mode: str | None) -> str:
    """How a caller may say who it is. A page's script is not told of Basic, or the browser would ask for a password."""
    basic = "" if fetch_mode not in (None, "navigate") else ', Basic realm="model-api", charset="UTF-8"'
    return f'Bearer realm="model-api"{basic}'


def answer_error(error: Exception) -> ApiResponse:
    """The response for any exception. Only what the error's type allows is told; everything else goes to the log."""
    if isinstance(error, InvalidBody):
        places = [{"pointer": place, "detail": detail} for place, detail in error.places]
        first = places[0]
        return problem(
            ROWS[errors.InvalidInput], f"{first['pointer'] or 'body'}: {first['detail']}", {"errors": places}
        )
    if isinstance(error, errors.InvalidInput):
        found = [{"pointer": error.pointer, "detail": str(error)}]
        return problem(ROWS[errors.InvalidInput], str(error), {"errors": found})
    if isinstance(error, HTTPException):
        return _answer_http(error)
    row = row_of(type(error))
    if row is UNEXPECTED:
        LOGGER.error("unexpected error", exc_info=error, extra={"fields": {"id": current_request().id}})
        return problem(row, HTTP_DETAILS[500])
    if isinstance(error, errors.JobFailed):
        # A caller's fault stays one; what the server did is told as that.
        status = row.status if int(error.problem.get("status", 500)) < 500 else 500
        return problem(replace(row, status=status), str(error), {"error": dict(error.problem)})
    response = problem(row, str(error))
    if isinstance(error, errors.TooManyRequests):
        response.headers["Retry-After"] = str(error.retry_after_s)
        current_request().limit_headers = error.headers
    if row.status == 401:
        response.headers["WWW-Authenticate"] = challenge(current_request().headers.get("Sec-Fetch-Mode"))
    if isinstance(error, errors.DeadlineExceeded) and error.job_id is not None:
        response.headers["Location"] = f"/jobs/{error.job_id}"
    return response


def _answer_http(error: HTTPException) -> ApiResponse:
    status = error.code or 500
    if status == 404 and current_request().method == "OPTIONS":
        # A browser asks so before it lets a page send: it must get through, to be shown the 404 itself.
        return options_response(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    if status == 500 and getattr(error, "original_exception", None) is not None:
        LOGGER.error("unexpected error", exc_info=error, extra={"fields": {"id": current_request().id}})
    # The framework's name of it: Python's own changes from release to release (413), and the type must not.
    slug = error.name.lower().replace(" ", "-").replace("'", "")
    row = UNEXPECTED if status == 500 else Row(status, slug, error.name)
    response = problem(row, HTTP_DETAILS.get(status) or error.description or error.name)
    for header, value in error.get_headers():
        if header.lower() not in ("content-type", "content-length"):
            response.headers[header] = value
    if status in (429, 503):
        response.headers.setdefault("Retry-After", "1")
    return response


def register(app: Flask, shapes: Mapping[str, Callable[[ApiResponse], ApiResponse]]) -> None:
    """`shapes`: how problems below a path are told to other people's clients."""

    def answer(error: Exception) -> ApiResponse:
        response = answer_error(error)
        path = current_request().path
        shape = next((shape for prefix, shape in shapes.items() if path.startswith(prefix)), None)
        return response if shape is None or response.mimetype != "application/problem+json" else shape(response)

    app.register_error_handler(Exception, answer)
