"""Workers: threads that take waiting jobs and run them, and one that keeps their leases and sweeps.

What running a job means is handed in (`work`); here is what every kind needs: the lease, its end, and what follows
from the way the work ended.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from model_api.errors import (
    CallerLeft,
    DeadlineExceeded,
    ForwardFailed,
    JobsDown,
    LeaseLost,
    ModelApiError,
    ModelNotReady,
    QueueFull,
    RepositoryUnavailable,
    RequestError,
    UnknownModel,
    VersionNotLoaded,
)
from model_api.jobs.job import Job, Payload, Progress
from model_api.jobs.queue import JobQueue
from model_api.jobs.sweeping import Sweeper
from model_api.serving.calls import UNGUARDED, Guard

log = logging.getLogger(__name__)

TICK_S = 1.0  # how soon a cancellation by another process is noticed, and progress written
TIDY_S = 60.0
ORPHANS_S = 3600.0
POSTPONE_S = 2.0
STORE_BACK_S = 600.0  # how long a result is held for a store that is down
# Not the job's fault, and likely to pass: the attempt doesn't count.
PASSING = (ModelNotReady, QueueFull, RepositoryUnavailable, JobsDown)
# It would end in the same way again; except what another instance, or this one a little later, may well know.
FINAL = (RequestError, ForwardFailed, DeadlineExceeded)
NOT_FINAL = (UnknownModel, VersionNotLoaded)


@dataclass(frozen=True)
class Outcome:
    """What the work gave: JSON, or a file that already lies among the objects, and the weights that gave it."""

    content: bytes = b""
    weights: Mapping[str, str | None] = field(default_factory=dict)
    file_key: str | None = None
    file_bytes: int = 0
    media_type: str = "application/json"
    file_name: str = ""
    then: Callable[[], None] = lambda: None  # once it is noted


class Run:
    """One claimed job while it is worked on. The work asks it whether to go on, and tells it how far it got."""

    def __init__(
        self, job: Job, run_also: Callable[[str], Job | None] = lambda job_id: None, guard: Guard = UNGUARDED
    ) -> None:
        """`run_also` runs another job meanwhile, on the same thread; see Runner.run_one. `guard` is the owner's."""
        self.guard = guard
        self.job = job
        self.run_also = run_also
        self._ended = threading.Event()
        self.progress = job.progress
        self.noted = job.progress  # as the record has it
        self.beaten_s = self.moved_s = time.monotonic()

    def has_left(self) -> bool:
        """Whether nobody wants the result any more: cancelled, taken by another worker, or stopping."""
        return self._ended.is_set()

    def end(self) -> None:
        self._ended.set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep; True at once when nobody wants the result any more."""
        return self._ended.wait(timeout_s)

    def advance(self, done: int, total: int | None = None, unit: str | None = None, errors: int = 0) -> None:
        """So much is done. Work that never says so is held to be hanging after a while."""
        self.progress = Progress(
            done,
            self.progress.total if total is None else total,
            self.progress.unit if unit is None else unit,
            errors,
        )
        self.moved_s = time.monotonic()


class Runner:
    """The workers of one process. `threads=0` runs only what `run_one` is called with."""

    def __init__(
        self,
        queue: JobQueue,
        sweeper: Sweeper,
        work: Callable[[Run], Outcome],
        problem_of: Callable[[Exception], Mapping[str, Any]],
        *,
        worker: str,
        threads: int,
        lease_s: float,
        stuck_s: float,
        sweep_every_s: float = TICK_S,
    ) -> None:
        """`stuck_s`: the lease of a run that makes no progress for so long is no longer kept."""
        self.guard_of: Callable[[str], Guard] = lambda owner: UNGUARDED  # replaced before `start`, if at all
        self._queue = queue
        self._sweeper = sweeper
        self._work = work
        self._problem_of = problem_of
        self.worker = worker
        self._beat_s = lease_s / 3
        self._stuck_s = stuck_s
        self._sweep_every_s = sweep_every_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)  # nothing runs any more
        self._runs: dict[str, Run] = {}
        names = [*(f"job-{i}" for i in range(threads)), "jobs-keeper"]
        targets = [*([self._take_jobs] * threads), self._keep]
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True) for target, name in zip(targets, names, strict=True)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def drain(self) -> None:
        """Start nothing from now on. What runs is put back at once: it begins again elsewhere, or after the restart."""
        self._stopping.set()
        self._queue.changes.note()
        with self._lock:
            self._idle.notify_all()
            for run in self._runs.values():
                run.end()

    def stop(self) -> None:
        self.drain()
        for thread in self._threads:
            thread.join()

    def forget(self, job_id: str) -> None:
        """The job was cancelled here: end its run at once, rather than at the keeper's next look."""
        with self._lock:
            run = self._runs.get(job_id)
        if run is not None:
            run.end()

    def run_one(self, job_id: str) -> Job | None:
        """Run that job now, on this thread, if it is to be started; the job as it is then. Raises JobsDown."""
        job = None if self._stopping.is_set() else self._queue.claim(job_id, self.worker)
        return None if job is None else self._run(job)

    def _take_jobs(self) -> None:
        while not self._stopping.is_set():
            seen = self._queue.changes.number
            try:
                job = self._queue.claim_next(self.worker)
            except JobsDown as error:
                log.warning("no job can be taken", extra={"fields": {"error": str(error)}})
                self._stopping.wait(POSTPONE_S)
                continue
            if job is None:
                self._queue.changes.wait(seen, TICK_S)
                continue
            after = self._run(job)
            if after is not None and after.attempts < job.attempts and not self._stopping.is_set():
                self._stopping.wait(TICK_S)  # what kept this one waits for the next as well

    def _run(self, job: Job) -> Job | None:
        """Work on a claimed job until that is over, one way or the other; None if its lease was lost."""
        run = Run(job, self.run_one, self.guard_of(job.owner))
        with self._lock:
            self._runs[job.id] = run
        if self._stopping.is_set():
            run.end()
        fields = {"job": job.id, "kind": job.kind, "attempt": job.attempts}
        try:
            conclude = self._attempt(run)
            after = self._conclude(run, conclude)
            log.info("job", extra={"fields": {**fields, "status": str(after.status)}})
            return after
        except LeaseLost:
            log.info("job left to others", extra={"fields": fields})
            return None
        finally:
            with self._lock:
                self._runs.pop(job.id, None)
                self._idle.notify_all()

    def _attempt(self, run: Run) -> Callable[[], Job]:
        """Do the work; how its end is to be noted."""
        queue, job = self._queue, run.job
        try:
            outcome = self._work(run)

            def succeed() -> Job:
                after = queue.succeed(job, self._payload(job, outcome), outcome.weights, run.progress)
                outcome.then()
                return after

            return succeed
        except PASSING as error:
            log.info("job postponed", extra={"fields": {"job": job.id, "reason": str(error)}})
            return lambda: queue.postpone(job, POSTPONE_S)
        except CallerLeft:
            return lambda: queue.postpone(job, 0.0)  # stopping; a cancelled job's lease is lost anyway
        except ModelApiError as error:
            problem = self._problem_of(error)
            for_good = isinstance(error, FINAL) and not isinstance(error, NOT_FINAL)
            return lambda: queue.fail(job, problem, for_good=for_good)
        except Exception as error:
            log.exception("a job failed unexpectedly", extra={"fields": {"job": job.id}})
            problem = self._problem_of(error)
            return lambda: queue.fail(job, problem, for_good=False)

    def _conclude(self, run: Run, conclude: Callable[[], Job]) -> Job:
        """Note the end, for as long as it takes the store to be there again. Raises LeaseLost."""
        give_up = time.monotonic() + STORE_BACK_S
        while True:
            try:
                return conclude()
            except JobsDown as error:
                log.warning("the end of a job can't be noted yet", extra={"fields": {"error": str(error)}})
                if time.monotonic() > give_up or self._stopping.wait(POSTPONE_S):
                    raise LeaseLost("the store is down; the job is run again when its lease is over") from error
                run.advance(run.progress.done)

    def _payload(self, job: Job, outcome: Outcome) -> Payload:
        if outcome.file_key is not None:
            return Payload(
                outcome.file_bytes,
                key=outcome.file_key,
                media_type=outcome.media_type,
                file_name=outcome.file_name,
            )
        return self._queue.keep(job, outcome.content, outcome.media_type)

    def _keep(self) -> None:
        """The keeper's thread: leases, and the sweep."""
        swept_s = tidied_s = orphans_s = time.monotonic() - TIDY_S
        while True:
            with self._lock:
                runs = list(self._runs.values())
            for run in runs:
                self._keep_lease(run)
            if self._stopping.is_set() and not runs:
                return
            now = time.monotonic()
            try:
                if now - swept_s >= self._sweep_every_s:
                    swept_s = now
                    self._sweeper.free_lapsed(now)
                if now - tidied_s >= TIDY_S:
                    tidied_s = now
                    self._sweeper.drop_expired()
                if now - orphans_s >= ORPHANS_S:
                    orphans_s = now
                    self._sweeper.drop_orphans()
            except JobsDown as error:
                log.warning("jobs can't be swept now", extra={"fields": {"error": str(error)}})
            except Exception:
                log.exception("the sweep failed")
            with self._lock:
                self._idle.wait_for(lambda: self._stopping.is_set() and not self._runs, TICK_S)

    def _keep_lease(self, run: Run) -> None:
        now = time.monotonic()
        if now - run.moved_s > self._stuck_s:
            return
        try:
            if run.progress != run.noted or now - run.beaten_s >= self._beat_s:
                progress = run.progress
                self._queue.beat(run.job, progress)
                run.noted, run.beaten_s = progress, now
            else:
                self._queue.check(run.job)
        except LeaseLost:
            run.end()
        except JobsDown as error:
            log.warning("a lease can't be kept now", extra={"fields": {"job": run.job.id, "error": str(error)}})
