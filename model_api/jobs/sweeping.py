"""What nobody else would do: free the jobs of dead workers, let go of what has expired, remove what no record names."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from model_api.jobs import job as states
from model_api.jobs.job import Job
from model_api.jobs.objects import owner_of
from model_api.jobs.queue import JobQueue

log = logging.getLogger(__name__)

REMEMBER_EXPIRED_S = 7 * 86400.0  # how long "expired" is told, before it becomes "unknown"
ORPHAN_S = 86400.0  # an object that no record names by then is somebody's who will never come back
AT_ONCE = 200
WAKE_AFTER_S = 120.0  # a message that takes longer may be lost


class Watch:
    """Tells which running jobs show no sign of life: by counting changes on this watcher's own clock, so that nobody's
    wall clock matters. One thread."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}

    def lapsed(self, running: Sequence[Job], now_monotonic_s: float) -> Iterator[Job]:
        """Those of `running` that haven't changed for a lease."""
        before, self._seen = self._seen, {}
        for job in running:
            revision, since = before.get(job.id, (job.revision, now_monotonic_s))
            if revision != job.revision:
                since = now_monotonic_s
            self._seen[job.id] = (job.revision, since)
            if now_monotonic_s - since >= self._lease_s:
                yield job


class Sweeper:
    """One thread; any number of them over one store do no harm. All methods raise JobsDown."""

    def __init__(
        self,
        queue: JobQueue,
        lease_s: float,
        vanished: Mapping[str, Any],
        is_gone: Callable[[str], bool] = lambda worker: False,
        drop_unused: Callable[[], None] = lambda: None,
    ) -> None:
        """`vanished` is the problem of a job whose worker is gone. `is_gone(worker)` is True where it is certain that
        the worker has ended, and needs no waiting. `drop_unused` removes what belongs to no job, now and then."""
        self._queue = queue
        self._drop_unused = drop_unused
        self._vanished = vanished
        self._watch = Watch(lease_s)
        self._is_gone = is_gone

    def free_lapsed(self, now_monotonic_s: float) -> int:
        """Queue again, or fail, what nobody works on any more; how many jobs."""
        running = self._queue.records.running(AT_ONCE)
        lapsed = {job.id: job for job in self._watch.lapsed(running, now_monotonic_s)}
        gone = {worker: self._is_gone(worker) for worker in {job.worker for job in running}}
        lapsed |= {job.id: job for job in running if gone[job.worker]}
        return sum(1 for job in lapsed.values() if self._free(job))

    def drop_expired(self) -> int:
        """Let go of what has expired, then of the memory of it; how many jobs."""
        records = self._queue.records
        now, dropped = records.now(), 0
        for job in records.expiring(now, AT_ONCE):
            expired = states.expire(job, now)
            if expired is not None and records.swap(job, expired):
                dropped += 1
                for payload in (job.work, job.result):
                    if payload is not None and payload.key is not None:
                        self._queue.objects.remove(payload.key)
        for job in records.expired(now - REMEMBER_EXPIRED_S, AT_ONCE):
            records.remove(job)
        return dropped

    def wake_waiting(self) -> int:
        """Tell again of what may start and has waited for a while: the message may be lost. How many jobs."""
        now = self._queue.records.now()
        ready = self._queue.records.ready(now, AT_ONCE)
        # A time in the future is of a clock that was wrong.
        forgotten = [job for job in ready if now - (job.ready_at or job.created) >= WAKE_AFTER_S or job.ready_at > now]
        for job in forgotten:
            self._queue.announce(job)
        return len(forgotten)

    def drop_orphans(self) -> int:
        """Remove old objects that no record names; how many."""
        self._drop_unused()
        kinds = ("work", "results")
        return sum(1 for kind in kinds for key in self._queue.objects.old_keys(kind, ORPHAN_S) if self._drop(key))

    def _free(self, job: Job) -> bool:
        """`job` is the newest that was seen of it: whoever wrote since is alive, and then it isn't freed."""
        queue = self._queue
        freed = states.fail(job, job.fence, self._vanished, queue.records.now(), max_attempts=queue.max_attempts)
        if not queue.records.swap(job, freed):
            return False
        log.warning("a job lost its worker", extra={"fields": {"job": job.id, "attempts": job.attempts}})
        queue.announce(freed)
        return True

    def _drop(self, key: str) -> bool:
        job = self._queue.records.get(owner_of(key))
        if job is not None and key in {payload.key for payload in (job.work, job.result) if payload is not None}:
            return False
        self._queue.objects.remove(key)
        return True
