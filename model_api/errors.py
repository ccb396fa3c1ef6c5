"""Every exception that the project raises on purpose. They speak the domain; problems.py alone speaks HTTP.

ModelApiError
├── RequestError                 the caller can mend it
│   ├── MalformedRequest         the body is not a JSON object
│   ├── InvalidInput             the body is JSON, but a value of it can't be served; names the place
│   ├── Unauthenticated          a key is wanted, and none came, or none that is good
│   ├── Forbidden                the key is good, and not for this
│   ├── TooManyRequests          more requests, or tokens, than the key may have in a while
│   ├── UnknownModel             no such model is published
│   ├── VersionNotLoaded         the model is known, that version (or canary) of it isn't loaded here
│   ├── ModelRefused             published, and nothing of it can be served here, for good
│   ├── UnknownJob               this caller never asked for such a job
│   ├── JobUnfinished            it needs a job that is over, and this one isn't
│   ├── JobOver                  it can't be done to a job that is over
│   ├── JobFailed                the job has no result: it failed
│   ├── JobCancelled             the job has no result: it was cancelled
│   ├── JobExpired               what the job gave is kept no longer
│   ├── IdempotencyKeyReused     the same key came with other work
│   ├── NotSigned                the address is not, or no longer, good
│   ├── UnknownUpload            this caller never asked for such an upload
│   ├── UploadConflict           its bytes haven't come yet, or came already
│   ├── UploadExpired            its bytes didn't come in time
│   ├── UploadRefused            its bytes aren't what was announced
│   └── UnknownPrediction        no such prediction is in the history
├── ServingError                 the caller did nothing wrong
│   ├── QueueFull                too much is waiting already
│   ├── DeadlineExceeded         no answer within the request's time limit
│   ├── ModelNotReady            published, but nothing of it is loaded (yet, or any more)
│   ├── LaneFailed               the model process died under the request, twice
│   ├── ForwardFailed            the model raised on this very input
│   ├── VideoUnavailable         this machine can't decode videos
│   ├── CacheDown                the result cache can't be reached, and the request was about nothing else
│   ├── JobsDown                 the place where jobs are kept can't be reached, is full, or can't be used
│   ├── JobsFull                 too many jobs are waiting already
│   ├── DatabaseDown             the history's database can't be reached, is full, or can't be used
│   ├── WorkerVanished           who ran the job died or hung
│   ├── KeysUnknown              who may call can't be read, and never could be
│   ├── LeaseLost                somebody else decides about this job now; stays inside
│   └── CallerLeft               the client closed its connection; nobody reads the answer
├── RepositoryError              what is on the shared file system, or in the local store
│   ├── RepositoryUnavailable    not mounted, hanging or failing: says nothing about what is published
│   ├── Refused                  a model or file that must not be served or published; names the file
│   ├── RefsConflict             somebody else changed refs.json in between
│   └── StoreFull                no room in the local store
├── LoadFailed                   a verified version couldn't be brought up in its process group
│   └── ProbeFailed              it came up, and its answers are wrong
└── SettingsError                bad environment variables, all of them at once

Stdlib only, Python 3.9: the publisher's far side runs this file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ModelApiError(Exception):
    """Root of the tree. `str(error)` is one line that a user may read."""


class RequestError(ModelApiError):
    """The caller can mend it."""


class MalformedRequest(RequestError):
    """The body is not a JSON object."""


class InvalidInput(RequestError):
    """A value can't be served; `pointer` is its RFC 6901 JSON pointer in the body, "" for the whole."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class Unauthenticated(RequestError):
    """A key is wanted, and none came, or none that is good."""


class Forbidden(RequestError):
    """The key is good, and not for this route or model."""


class TooManyRequests(RequestError):
    """More requests, or tokens, than the key may have in a while. `headers` tell how it stands."""

    def __init__(self, message: str, retry_after_s: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.headers = headers


class UnknownModel(RequestError):
    """No such model is published."""

    def __init__(self, name: str, near: str | None = None) -> None:
        """`near`: the published name that was meant, perhaps."""
        meant = f"; did you mean {near!r}?" if near else "; GET /models lists them"
        super().__init__(f"no model named {name!r} is published{meant}")
        self.name = name


class VersionNotLoaded(RequestError):
    """The model is known, that version (or canary) of it isn't loaded here."""

    def __init__(self, name: str, version: str, what_became_of_it: str = "") -> None:
        why = f": {what_became_of_it}" if what_became_of_it else ""
        super().__init__(f"{name}@{version} is not loaded here{why}; GET /models/{name} lists what is")
        self.name = name
        self.version = version


class ModelRefused(RequestError):
    """Published, and nothing of it can be served here, for good: asking again won't help, another publish will."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} can't be served: {reason}")
        self.name = name


class UnknownJob(RequestError):
    """This caller never asked for such a job."""


class JobUnfinished(RequestError):
    """It needs a job that is over, and this one isn't."""


class JobOver(RequestError):
    """It can't be done to a job that is over."""


class JobFailed(RequestError):
    """The job has no result: it failed. `problem` is the problem document that says why."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", "the job failed")))
        self.problem = problem


class JobCancelled(RequestError):
    """The job has no result: it was cancelled."""


class JobExpired(RequestError):
    """What the job gave is kept no longer."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id[:16]} has expired: ask for the same work again")


class IdempotencyKeyReused(RequestError):
    """The same key came with other work."""


class NotSigned(RequestError):
    """The address is not, or no longer, good."""


class UnknownUpload(RequestError):
    """This caller never asked for such an upload."""


class UploadConflict(RequestError):
    """The upload's bytes haven't come yet, or came already."""


class UploadExpired(RequestError):
    """The upload's bytes didn't come in time."""


class UploadRefused(RequestError):
    """The upload's bytes aren't what was announced; they were dropped."""


class UnknownPrediction(RequestError):
    """No such prediction is in the history, or no longer."""


class ServingError(ModelApiError):
    """The caller did nothing wrong."""


class QueueFull(ServingError):
    """Too much is waiting already; nothing was queued."""


class DeadlineExceeded(ServingError):
    """No answer within the request's time limit. `job_id` is of the job that goes on with it, if there is one."""

    job_id: str | None = None


class ModelNotReady(ServingError):
    """Published, but nothing of it is loaded (yet, or any more)."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} is not ready: {why}")
        self.name = name


class LaneFailed(ServingError):
    """The model process died under the request, twice."""


class ForwardFailed(ServingError):
    """The model raised on this very input. The message never holds the exception's text: it may quote data."""


class VideoUnavailable(ServingError):
    """This machine can't decode videos: what decodes them, or what would keep it in bounds, isn't there."""


class CacheDown(ServingError):
    """The result cache can't be reached, and the request was about nothing else."""


class JobsDown(ServingError):
    """The place where jobs are kept can't be reached, is full, or can't be used. Nothing was lost."""


class JobsFull(ServingError):
    """Too many jobs are waiting already; this one wasn't taken."""


class DatabaseDown(ServingError):
    """The database can't be reached, is full, too slow, or can't be used. What was to be written wasn't."""


class WorkerVanished(ServingError):
    """Who ran the job died or hung. Found in a job's `error`."""


class KeysUnknown(ServingError):
    """Who may call can't be read, and never could be: nobody is let in."""


class LeaseLost(ServingError):
    """Somebody else decides about this job now. Passes between the parts of `jobs/`; no caller sees it."""


class CallerLeft(ServingError):
    """The client closed its connection; nobody reads the answer."""


class RepositoryError(ModelApiError):
    """About the shared file system or the local store."""


class RepositoryUnavailable(RepositoryError):
    """Not mounted, hanging or failing. Says nothing about what is published: absent is not empty."""


class Refused(RepositoryError):
    """A model or a file that must not be served or published. `path` is relative to the model's folder."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class RefsConflict(RepositoryError):
    """Somebody else changed refs.json in between; read it again and decide afresh."""


class StoreFull(RepositoryError):
    """No room in the local store."""


class LoadFailed(ModelApiError):
    """A verified version couldn't be brought up in its process group."""


class ProbeFailed(LoadFailed):
    """It came up, and its answers are wrong: final for this digest."""


class SettingsError(ModelApiError):
    """Bad environment variables, all of them at once."""
