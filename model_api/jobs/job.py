"""One job: its states, and what may follow what. Pure: no clock, no store, no thread.

    queued  --claim-->  running  --succeed-->  succeeded
       ^                  |  |-----fail----->  failed        for good, or after the last attempt
       |--lapse, postpone-|  |
    queued, running  --cancel-->  cancelled
    queued, succeeded, failed, cancelled  --time-->  expired
    failed, cancelled  --retry-->  queued;   whatever is over  --ask again, with the work-->  queued

`fence` counts the claims. Who runs a job holds the number of his claim, and whoever holds another one may no longer
write: a worker that was believed dead can't overwrite what its successor does. `revision` counts the writes; a store
takes a write only from who read the newest revision, so all transitions of a job are in one order.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import orjson

from model_api.errors import JobExpired, JobOver, JobUnfinished, LeaseLost

MAX_NOTICES = 10  # tries to tell that a job is over
MAX_BACKOFF_S = 600.0


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


OVER = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED})


@dataclass(frozen=True)
class Payload:
    """What a job works on, or gave. Small JSON lies in the record itself (`inline`), the rest is the object `key`."""

    n_bytes: int
    inline: str | None = None
    key: str | None = None
    media_type: str = "application/json"
    file_name: str = ""


@dataclass(frozen=True)
class Progress:
    done: int = 0
    total: int = 0
    unit: str = "inputs"
    errors: int = 0  # of those done, so many with an error of their own; known at the end


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that is known of one. Times are seconds since 1970 by the store's clock."""

    id: str
    kind: str
    work: Payload | None  # None once it expired
    fingerprint: str  # of the work without the weights: whether an Idempotency-Key comes with the same work again
    model: str | None = None
    version: str | None = None
    digest: str | None = None  # of the weights asked for; once there is a result, of those that gave it
    pinned: bool = False  # the caller named the version: no other may answer
    upload: str | None = None  # the upload that it works on
    owner: str = ""
    ttl_s: float
    created: float
    expires: float | None  # None while it runs
    status: Status = Status.QUEUED
    revision: int = 0
    fence: int = 0
    attempts: int = 0
    worker: str = ""
    ready_at: float = 0.0  # not started before; later than any wait can be, it is of a clock that was wrong
    started: float | None = None
    finished: float | None = None
    progress: Progress = field(default_factory=Progress)
    result: Payload | None = None
    error: Mapping[str, Any] | None = None  # the problem document of the last failure
    notify: str | None = None
    notify_at: float | None = None  # when to tell next that it is over
    notices: int = 0

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    def to_json(self) -> bytes:
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> "Job":
        """Raises ValueError or TypeError for what `to_json` didn't make."""
        values: dict[str, Any] = orjson.loads(text)
        known = {spec.name for spec in fields(cls)}
        values = {name: value for name, value in values.items() if name in known}  # a later release may add some
        for name in ("work", "result"):
            values[name] = None if values[name] is None else Payload(**values[name])
        values["progress"] = Progress(**values["progress"])
        values["status"] = Status(values["status"])
        return cls(**values)


def canonical(work: Mapping[str, Any]) -> bytes:
    """The work as JSON, the same whatever the order of its keys."""
    return orjson.dumps(work, option=orjson.OPT_SORT_KEYS)


def fingerprint(work: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical(work)).hexdigest()


def job_id(owner: str, fingerprint: str, digest: str | None, nonce: str) -> str:
    """sha256 of who asks, the canonical work, the weights that are to do it, and `nonce` where a repetition isn't the
    same work."""
    return hashlib.sha256(orjson.dumps([owner, fingerprint, digest, nonce])).hexdigest()


def keyed_job_id(owner: str, key: str) -> str:
    """The id that an Idempotency-Key stands for: whatever the work, so that another work under it is noticed."""
    return hashlib.sha256(orjson.dumps(["idempotency-key", owner, key])).hexdigest()


def seen(job: Job, now: float) -> Job:
    """The job as it is at `now`: no store is trusted to drop in time what has expired."""
    if job.expires is None or now < job.expires or job.status == Status.EXPIRED:
        return job
    return replace(job, status=Status.EXPIRED, work=None, result=None, notify_at=None)


def _written(job: Job, **changes: Any) -> Job:
    return replace(job, revision=job.revision + 1, **changes)


def _over(job: Job, status: Status, now: float, **changes: Any) -> Job:
    notify_at = now if job.notify else None
    return _written(
        job,
        status=status,
        finished=now,
        expires=now + job.ttl_s,
        notify_at=notify_at,
        notices=0,
        **changes,
    )


def claim(job: Job, worker: str, now: float) -> Job | None:
    """Running, by `worker`; None if it is not to be started now."""
    job = seen(job, now)
    if job.status != Status.QUEUED or now < job.ready_at <= now + MAX_BACKOFF_S:
        return None
    return _written(
        job,
        status=Status.RUNNING,
        fence=job.fence + 1,
        attempts=job.attempts + 1,
        worker=worker,
        started=now,
        expires=None,
        progress=replace(job.progress, done=0),
    )


def check_lease(job: Job | None, fence: int) -> Job:
    """Raises LeaseLost unless the claim numbered `fence` is still the one that counts."""
    if job is None or job.status != Status.RUNNING or job.fence != fence:
        raise LeaseLost("somebody else decides about this job now")
    return job


def beat(job: Job | None, fence: int, progress: Progress) -> Job:
    """A sign of life. Raises LeaseLost."""
    return _written(check_lease(job, fence), progress=progress)


def succeed(
    job: Job | None, fence: int, result: Payload, weights: Mapping[str, str | None], now: float, progress: Progress
) -> Job:
    """`weights` are the model, version and digest that gave the result. Raises LeaseLost."""
    job = check_lease(job, fence)
    done = replace(progress, done=progress.total)
    return _over(job, Status.SUCCEEDED, now, result=result, error=None, progress=done, **weights)


def fail(job: Job | None, fence: int, error: Mapping[str, Any], now: float, *, max_attempts: int) -> Job:
    """An attempt ended without a result: queued again, later each time, or failed after the last. Raises LeaseLost."""
    job = check_lease(job, fence)
    if job.attempts >= max_attempts:
        return _over(job, Status.FAILED, now, error=dict(error))
    wait_s = min(MAX_BACKOFF_S, 2.0 ** (job.attempts - 1))
    return _queued(job, now + wait_s, now, error=dict(error))


def postpone(job: Job | None, fence: int, now: float, wait_s: float) -> Job:
    """Queued again for a reason that isn't the job's: the attempt doesn't count. Raises LeaseLost."""
    job = check_lease(job, fence)
    return _queued(job, now + wait_s, now, attempts=job.attempts - 1)


def _queued(job: Job, ready_at: float, now: float, **changes: Any) -> Job:
    return _written(
        job, status=Status.QUEUED, worker="", started=None, ready_at=ready_at, expires=now + job.ttl_s, **changes
    )


def cancel(job: Job, now: float) -> Job:
    """Raises JobOver where there is nothing left to cancel, JobExpired."""
    job = seen(job, now)
    if job.status == Status.EXPIRED:
        raise JobExpired(job.id)
    if job.is_over:
        raise JobOver(f"the job has {job.status} already" if job.status != Status.CANCELLED else "it is cancelled")
    return _over(job, Status.CANCELLED, now)


def retry(job: Job, now: float) -> Job:
    """The same work once more. Raises JobUnfinished, JobOver after a success, JobExpired when the work is gone."""
    job = seen(job, now)
    if job.status == Status.EXPIRED or job.work is None:
        raise JobExpired(job.id)
    if not job.is_over:
        raise JobUnfinished(f"the job is {job.status}; only one that failed or was cancelled can be tried again")
    if job.status == Status.SUCCEEDED:
        raise JobOver("the job has succeeded already; its result is there")
    return _anew(job, now)


def starts_anew(job: Job, digest: str | None, now: float) -> bool:
    """Whether asking again for the same work, by the weights `digest`, begins it again rather than joins it."""
    job = seen(job, now)
    if job.status == Status.SUCCEEDED:
        return job.digest != digest
    return job.status in (Status.CANCELLED, Status.EXPIRED)


def ask_again(job: Job, asked: Job, now: float) -> Job:
    """The record when the same work, asked for again as `asked`, begins anew."""
    return _anew(
        replace(
            job,
            work=asked.work,
            model=asked.model,
            version=asked.version,
            digest=asked.digest,
            pinned=asked.pinned,
            upload=asked.upload,
            ttl_s=asked.ttl_s,
            notify=asked.notify,
            created=now,
            progress=asked.progress,
        ),
        now,
    )


def _anew(job: Job, now: float) -> Job:
    return _queued(
        job, 0.0, now, attempts=0, finished=None, result=None, error=None, notify_at=None, progress=job.progress
    )


def expire(job: Job, now: float) -> Job | None:
    """The record without what it no longer gives; None if it isn't time. Stays, so that "expired" isn't "unknown"."""
    expired = seen(job, now)
    if expired is job:
        return None
    return _written(expired)


def note_notice(job: Job, now: float) -> Job | None:
    """Before telling: when to try next, should this try never be heard of. None if there is nothing to tell."""
    if job.notify_at is None or job.notify_at > now or not job.is_over:
        return None
    return _written(job, notices=job.notices + 1, notify_at=now + min(MAX_BACKOFF_S, 5.0 * 2**job.notices))


def end_notices(job: Job) -> Job:
    """It was told, or it is of no use to try again."""
    return _written(job, notify_at=None)
