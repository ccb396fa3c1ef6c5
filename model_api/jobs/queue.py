"""The jobs of this server: asking for one, reading it, and what workers do to it.

Each step reads the record, lets job.py decide, and writes what it decided; where somebody else wrote in between, it
begins again. So a crash between any two steps leaves a record that is whole, and a step that wasn't noted is repeated.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model_api.errors import (
    IdempotencyKeyReused,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobsFull,
    JobUnfinished,
    UnknownJob,
)
from model_api.jobs import job as states
from model_api.jobs.changes import Changes, Wakeup
from model_api.jobs.job import Job, Payload, Progress, Status
from model_api.jobs.objects import Objects, new_key, put, read
from model_api.jobs.records import Listing, Records

MAX_INLINE_BYTES = 64 * 1024
LOOK_S = 0.5  # how soon a waiting caller sees what another process did
WAITING_KNOWN_S = 1.0
_CLAIM_AT_ONCE = 8
MANY = 100_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """A job as asked for: canonical `work` as JSON, and what it is to be called."""

    kind: str
    work: Mapping[str, Any]
    model: str | None
    version: str | None
    digest: str | None
    pinned: bool = False
    upload: str | None = None
    owner: str
    ttl_s: float
    nonce: str = ""
    idempotency_key: str | None = None
    notify: str | None = None
    total: int = 0
    unit: str = "inputs"


class JobQueue:
    """Any thread."""

    def __init__(
        self,
        records: Records,
        objects: Objects,
        *,
        max_waiting: int,
        max_attempts: int,
        changes: Changes | None = None,
        wakeup: Wakeup | None = None,
    ) -> None:
        """`wakeup` reaches workers elsewhere; those of this process wait for `changes`."""
        self.records = records
        self.objects = objects
        self.changes = changes or Changes()
        self._wakeup = wakeup
        self._max_waiting = max_waiting
        self.max_attempts = max_attempts
        self._waiting = (0, -WAITING_KNOWN_S)  # how many, and when that was known

    # What callers do

    def submit(self, request: Request) -> tuple[Job, bool]:
        """The job that does this work, and whether it is to start on it because of this request.

        Raises JobsFull, IdempotencyKeyReused, JobsDown.
        """
        fingerprint = states.fingerprint(request.work)
        if request.idempotency_key is not None:
            job_id = states.keyed_job_id(request.owner, request.idempotency_key)
        else:
            job_id = states.job_id(request.owner, fingerprint, request.digest, request.nonce)
        if (joined := self._joined(self.records.get(job_id), fingerprint, request)) is not None:
            return joined, False
        self._check_room()
        now = self.records.now()
        asked = Job(
            id=job_id,
            kind=request.kind,
            work=self._payload("work", job_id, states.canonical(request.work)),
            fingerprint=fingerprint,
            model=request.model,
            version=request.version,
            digest=request.digest,
            pinned=request.pinned,
            upload=request.upload,
            owner=request.owner,
            ttl_s=request.ttl_s,
            created=now,
            expires=now + request.ttl_s,
            progress=Progress(0, request.total, request.unit),
            notify=request.notify,
        )
        while not self.records.add(asked):
            found = self.records.get(job_id)
            if (joined := self._joined(found, fingerprint, request)) is not None:
                return joined, False
            if found is not None and self.records.swap(found, again := states.ask_again(found, asked, now)):
                asked = again
                break
        self.announce(asked)
        return asked, True

    def get(self, job_id: str, owner: str) -> Job:
        """Raises UnknownJob, JobsDown."""
        job = self.records.get(job_id)
        if job is None or job.owner != owner:
            raise UnknownJob(f"no job {job_id[:16]} was asked for here")
        return states.seen(job, self.records.now())

    def wait(self, job_id: str, owner: str, timeout_s: float, until: Callable[[Job], bool]) -> Job:
        """The job as soon as `until` holds, or as it is after `timeout_s`. Raises as `get`."""
        deadline = time.monotonic() + timeout_s
        while True:
            seen = self.changes.number
            job = self.get(job_id, owner)
            left_s = deadline - time.monotonic()
            if until(job) or left_s <= 0:
                return job
            self.changes.wait(seen, min(LOOK_S, left_s))

    def result(self, job: Job) -> Payload:
        """Raises JobUnfinished, JobFailed, JobCancelled or JobExpired where there is none."""
        if job.status == Status.FAILED:
            raise JobFailed(job.error or {})
        if job.status == Status.CANCELLED:
            raise JobCancelled("the job was cancelled")
        if job.status == Status.EXPIRED:
            raise JobExpired(job.id)
        if job.result is None:
            raise JobUnfinished(f"the job is {job.status}")
        return job.result

    def content(self, payload: Payload) -> bytes:
        """The bytes of a payload. Raises ObjectGone, JobsDown."""
        if payload.inline is not None:
            return payload.inline.encode()
        return read(self.objects, payload.key or "")

    def cancel(self, job_id: str, owner: str) -> Job:
        """Raises UnknownJob, JobOver, JobExpired, JobsDown."""
        return self._change(job_id, owner, lambda job: states.cancel(job, self.records.now()))

    def retry(self, job_id: str, owner: str) -> Job:
        """Raises UnknownJob, JobUnfinished, JobOver, JobExpired, JobsDown."""
        job = self._change(job_id, owner, lambda job: states.retry(job, self.records.now()))
        self.announce(job)
        return job

    def page(self, listing: Listing) -> list[Job]:
        now = self.records.now()
        return [states.seen(job, now) for job in self.records.page(listing, now)]

    def uploads_waited_for(self) -> set[str]:
        """The uploads of jobs that aren't over."""
        unfinished = [*self.records.running(MANY), *self.records.queued(MANY)]
        return {job.upload for job in unfinished if job.upload is not None}

    # What workers do

    def claim_next(self, worker: str) -> Job | None:
        """The waiting job that was asked for first, now running; None if nothing is to be started."""
        now = self.records.now()
        while candidates := self.records.ready(now, _CLAIM_AT_ONCE):
            for job in candidates:
                claimed = states.claim(job, worker, now)
                if claimed is not None and self.records.swap(job, claimed):
                    return claimed
        return None

    def claim(self, job_id: str, worker: str) -> Job | None:
        """The job, now running; None if it isn't to be started now, by whomever."""
        while (job := self.records.get(job_id)) is not None:
            claimed = states.claim(job, worker, self.records.now())
            if claimed is None or self.records.swap(job, claimed):
                return claimed
        return None

    def beat(self, job: Job, progress: Progress) -> Job:
        """Raises LeaseLost, JobsDown."""
        return self._under_lease(job, lambda found: states.beat(found, job.fence, progress))

    def check(self, job: Job) -> None:
        """Raises LeaseLost if the claim no longer counts, JobsDown."""
        states.check_lease(self.records.get(job.id), job.fence)

    def succeed(
        self, job: Job, result: Payload, weights: Mapping[str, str | None], progress: Progress | None = None
    ) -> Job:
        """Raises LeaseLost, JobsDown."""
        done = progress or job.progress
        return self._under_lease(
            job, lambda found: states.succeed(found, job.fence, result, weights, self.records.now(), done)
        )

    def fail(self, job: Job, problem: Mapping[str, Any], *, for_good: bool) -> Job:
        """Raises LeaseLost, JobsDown."""
        most = 0 if for_good else self.max_attempts
        return self._under_lease(
            job, lambda found: states.fail(found, job.fence, problem, self.records.now(), max_attempts=most)
        )

    def postpone(self, job: Job, wait_s: float) -> Job:
        """Raises LeaseLost, JobsDown."""
        return self._under_lease(job, lambda found: states.postpone(found, job.fence, self.records.now(), wait_s))

    def keep(self, job: Job, content: bytes, media_type: str = "application/json") -> Payload:
        """A result that a worker made: in the record if it is small, else an object. Raises JobsDown."""
        return self._payload("results", job.id, content, media_type)

    def _joined(self, found: Job | None, fingerprint: str, request: Request) -> Job | None:
        """The job that there is already, if this request changes nothing about it. Raises IdempotencyKeyReused."""
        if found is None:
            return None
        if found.fingerprint != fingerprint:
            raise IdempotencyKeyReused("this Idempotency-Key came with other work before")
        now = self.records.now()
        # A key stands for one run of the work, whatever weights are served by now.
        digest = request.digest if request.idempotency_key is None else found.digest
        return None if states.starts_anew(found, digest, now) else states.seen(found, now)

    def _payload(self, kind: str, job_id: str, content: bytes, media_type: str = "application/json") -> Payload:
        if len(content) <= MAX_INLINE_BYTES and media_type == "application/json":
            return Payload(len(content), inline=content.decode(), media_type=media_type)
        key = new_key(kind, job_id)
        put(self.objects, key, content, media_type)
        return Payload(len(content), key=key, media_type=media_type)

    def _check_room(self) -> None:
        """Raises JobsFull. Looks at most once a second: the limit keeps a disk from filling, and needn't be exact."""
        count, known_at = self._waiting
        if time.monotonic() - known_at > WAITING_KNOWN_S:
            count = self.records.count_waiting()
            known_at = time.monotonic()
        self._waiting = (count + 1, known_at)  # this one too
        if count >= self._max_waiting:
            raise JobsFull(f"{count} jobs are waiting already")

    def announce(self, job: Job) -> None:
        """Tell waiting callers, and workers if it may be started."""
        self.changes.note()
        if self._wakeup is not None and job.status == Status.QUEUED:
            self._wakeup.wake(job.id, max(0.0, job.ready_at - self.records.now()))

    def _change(self, job_id: str, owner: str, decide: Callable[[Job], Job]) -> Job:
        while True:
            found = self.records.get(job_id)
            if found is None or found.owner != owner:
                raise UnknownJob(f"no job {job_id[:16]} was asked for here")
            changed = decide(found)
            if self.records.swap(found, changed):
                self.changes.note()
                return changed

    def _under_lease(self, job: Job, decide: Callable[[Job | None], Job]) -> Job:
        while True:
            found = self.records.get(job.id)
            changed = decide(found)
            if found is not None and self.records.swap(found, changed):
                self.announce(changed)
                return changed
