"""What can go wrong, a class per problem type of the server.

ModelApiError
├── Unreachable                 no answer came: no connection, or it broke
│   └── TimedOut                no answer came in time
├── UnexpectedAnswer            an answer that is none of this API's: a proxy's page, perhaps
├── TooLate                     a job wasn't over within the time that the caller gave; it goes on
├── MissingPackage              an optional package is wanted (numpy)
└── Problem                     the server said what is wrong
    ├── CallerProblem           400 to 499: the request can be mended
    │   ├── MalformedRequest, InvalidInput, UnknownModel, VersionNotLoaded, ModelRefused, ...
    │   └── UnknownJob, JobUnfinished, JobOver, JobFailed, JobCancelled, JobExpired, ...
    └── ServerProblem           500 and above: the caller did nothing wrong
        └── QueueFull, ModelNotReady, DeadlineExceeded, ForwardFailed, ...

A type that this release doesn't know yet is a CallerProblem or a ServerProblem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_api_client._headers import job_of, seconds_of


class ModelApiError(Exception):
    """Root of the tree. `str(error)` is one line."""


class Unreachable(ModelApiError):
    """No answer came: no connection could be made, or it broke."""


class TimedOut(Unreachable):
    """No answer came in time. The server may still be working on it."""


class UnexpectedAnswer(ModelApiError):
    """An answer that is none of this API's; `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class TooLate(ModelApiError):
    """The job `job_id` wasn't over within the time that the caller gave. It goes on."""

    def __init__(self, job_id: str, timeout_s: float) -> None:
        super().__init__(f"job {job_id[:16]} isn't over after {timeout_s:g} s; it goes on")
        self.job_id = job_id


class MissingPackage(ModelApiError):
    """An optional package is wanted and isn't installed."""


@dataclass(frozen=True)
class Place:
    """Where in the body something is wrong: an RFC 6901 JSON pointer, "" for the whole."""

    pointer: str
    detail: str


class Problem(ModelApiError):
    """The server's own account of what is wrong (RFC 9457).

    `type` is the last part of the problem's type, e.g. "unknown-model"; `places` point into the body that was sent;
    `retry_after_s` is when asking again makes sense, None if it doesn't; `job_id` is of the job that goes on with the
    request (DeadlineExceeded); `index` is the input's number in a `map`; `document` is all that the server said.
    """

    index: int | None = None

    def __init__(self, status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        headers = headers or {}
        self.status = status
        self.document = dict(document)
        self.type = _slug(document)
        self.title = str(document.get("title") or "")
        self.detail = str(document.get("detail") or self.title or f"status {status}")
        self.request_id: str | None = document.get("request_id") or headers.get("x-request-id")
        self.retry_after_s = seconds_of(headers.get("retry-after"))
        self.job_id = job_of(headers.get("location"))
        self.places = [
            Place(str(place.get("pointer", "")), str(place.get("detail", "")))
            for place in document.get("errors") or ()
            if isinstance(place, Mapping)
        ]
        super().__init__(" ".join(self.detail.split()))

    def __reduce__(self) -> Any:
        """So that it passes between processes."""
        headers = {
            "x-request-id": self.request_id or "",
            "retry-after": "" if self.retry_after_s is None else str(self.retry_after_s),
            "location": f"/jobs/{self.job_id}" if self.job_id else "",
        }
        return type(self), (self.status, self.document, headers)


class CallerProblem(Problem):
    """400 to 499: the request can be mended."""


class ServerProblem(Problem):
    """500 and above: the caller did nothing wrong."""


class MalformedRequest(CallerProblem):
    """The body is not a JSON object."""


class InvalidInput(CallerProblem):
    """A value of the body can't be served; `places` say which."""


class Unauthenticated(CallerProblem):
    """A key is wanted, and none was sent, or none that is good."""


class Forbidden(CallerProblem):
    """The key is good, and not for this route or model."""


class UnknownModel(CallerProblem):
    """No such model is published."""


class VersionNotLoaded(CallerProblem):
    """The model is published, that version of it isn't loaded."""


class ModelRefused(CallerProblem):
    """It is published, and can't be served for good: another publish mends it, asking again doesn't."""


class UnknownJob(CallerProblem):
    """You never asked for such a job, or it was long ago."""


class JobUnfinished(CallerProblem):
    """It needs a job that is over, and this one isn't."""


class JobOver(CallerProblem):
    """It can't be done to a job that is over."""


class JobFailed(Problem):
    """The job has no result: it failed. `cause` is the problem that ended it."""

    @property
    def cause(self) -> Mapping[str, Any]:
        found = self.document.get("error")
        return found if isinstance(found, Mapping) else {}


class JobCancelled(CallerProblem):
    """The job has no result: it was cancelled."""


class JobExpired(CallerProblem):
    """What the job gave is kept no longer."""


class IdempotencyKeyReused(CallerProblem):
    """The same key came with other work before."""


class NotSigned(CallerProblem):
    """A signed address is too old, or was changed."""


class UnknownUpload(CallerProblem):
    """You never asked for such an upload, or it is kept no longer."""


class UploadConflict(CallerProblem):
    """The upload's bytes came already, or haven't come yet."""


class UploadExpired(CallerProblem):
    """The upload's bytes didn't come in time."""


class UploadRefused(CallerProblem):
    """The upload's bytes aren't what was announced."""


class NotFound(CallerProblem):
    """No such route: is the URL that of a Model API?"""


class MethodNotAllowed(CallerProblem):
    """That route doesn't take that method."""


class RequestTimeout(CallerProblem):
    """The body didn't arrive in time."""


class RequestTooLarge(CallerProblem):
    """The body is larger than the server takes."""


class UnsupportedMediaType(CallerProblem):
    """The body is of a type that the server doesn't take."""


class TooManyRequests(CallerProblem):
    """More than this caller may ask for in a while."""


class KeysUnknown(ServerProblem):
    """The server never could read who may call."""


class QueueFull(ServerProblem):
    """Too much is waiting already."""


class ModelNotReady(ServerProblem):
    """It is published, and not loaded yet."""


class DatabaseDown(ServerProblem):
    """The history can't be kept or read now."""


class UnknownPrediction(CallerProblem):
    """No such prediction is kept."""


class LaneFailed(ServerProblem):
    """The model process died under the request."""


class ForwardFailed(ServerProblem):
    """The model failed on this very input."""


class VideoUnavailable(ServerProblem):
    """Videos can't be decoded there."""


class CacheDown(ServerProblem):
    """The result cache is out of reach."""


class JobsDown(ServerProblem):
    """Jobs can't be kept now. Nothing was lost."""


class JobsFull(ServerProblem):
    """Too many jobs are waiting already."""


class WorkerVanished(ServerProblem):
    """Who ran the job died or hung."""


class RepositoryUnavailable(ServerProblem):
    """The shared file system is out of reach."""


class DeadlineExceeded(ServerProblem):
    """No answer within the server's time limit. Where `job_id` is set, that job goes on with it."""


class CallerLeft(CallerProblem):
    """The connection was closed before the answer."""


class InternalError(ServerProblem):
    """The server failed; its log has the cause under `request_id`."""


def _slug(document: Mapping[str, Any]) -> str:
    return str(document.get("type") or "").rpartition("/")[2]
