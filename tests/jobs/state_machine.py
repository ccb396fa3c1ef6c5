"""Jobs over a real store, with workers that die between any two steps, come late, or hang; with clocks that jump.

What must hold at every moment: the record is whole; only who holds the newest claim has written; a result is the right
one; nothing that was accepted is lost. In the end everything that can be done is done.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from model_api.errors import JobExpired, JobOver, JobUnfinished, LeaseLost, UnknownJob
from model_api.jobs.documents import notice
from model_api.jobs.job import MAX_BACKOFF_S, MAX_NOTICES, Job, Progress, Status
from model_api.jobs.notices import Notifier
from model_api.jobs.objects import Objects
from model_api.jobs.queue import MAX_INLINE_BYTES, JobQueue, Request
from model_api.jobs.records import Records
from model_api.jobs.sweeping import Sweeper
from tests.jobs.faults import Crashed, Faulty

LEASE_S = 30.0
TTL_S = 5000.0
MAX_ATTEMPTS = 3
WORKS = st.integers(0, 4)
DIGESTS = st.sampled_from(["d", "e"])  # the weights asked for, and what a swap left


class Clock:
    """The store's wall clock, and what passes on everybody's own."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 0.0

    def __call__(self) -> float:
        return self.wall

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@dataclass(frozen=True)
class Claimed:
    """What a worker remembers of its claim; it may be long out of date."""

    job: Job


class Teller(Notifier):
    """Tells nobody: notes what would have been told."""

    def __init__(self, records: Any, told: set[tuple[str, int, str]]) -> None:
        super().__init__(records, notice, key=b"key", allowed=(), publish=lambda arn, subject, body: None)
        self.told = told

    def _tell(self, job: Job) -> bool:
        self.told.add((job.id, job.fence, str(job.status)))
        return True


def result_of(job: Job, work: int) -> bytes:
    """Names the work and the claim. That of every second work is too large for the record."""
    padding = "x" * (MAX_INLINE_BYTES if work % 2 else 10)
    return orjson.dumps({"work": work, "fence": job.fence, "padding": padding})


def work_of(job: Job) -> int:
    assert job.work is not None
    return int(orjson.loads(job.work.inline or "")["n"])


class JobsMachine(RuleBasedStateMachine):
    """Subclasses say how to open the stores."""

    claims = Bundle("claims")

    def open_stores(self, clock: Callable[[], float]) -> tuple[Records, Objects]:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.clock = Clock()
        self.set_back_s = 0.0
        self.steps_left: int | None = None
        self.accepted: dict[str, int] = {}  # id -> work
        self.newest: dict[str, tuple[int, int]] = {}  # id -> revision, fence
        self.observers: list[Sweeper] = []
        self.told: set[tuple[str, int, str]] = set()
        self._open()

    def _open(self) -> None:
        records, objects = self.open_stores(self.clock)
        self.records, self.objects = records, objects
        faulty: list[Any] = [Faulty(store, self._step, self._step) for store in (records, objects)]
        self.queue = JobQueue(faulty[0], faulty[1], max_waiting=1000, max_attempts=MAX_ATTEMPTS)
        self.teller = Teller(faulty[0], self.told)
        self.observers = [Sweeper(self.queue, LEASE_S, {"detail": "gone"}) for _ in range(2)]

    def _step(self, name: str) -> None:
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise Crashed

    @contextlib.contextmanager
    def _mortal(self) -> Any:
        """The process may die inside, where `die_soon` said so."""
        try:
            with contextlib.suppress(Crashed):
                yield
        finally:
            self.steps_left = None

    def _request(self, work: int) -> Request:
        return Request(
            kind="predict",
            work={"n": work},
            model="m",
            version="1",
            digest="d",
            owner="",
            ttl_s=TTL_S,
            notify="https://example.org/hook" if work % 3 == 0 else None,
            total=1,
        )

    @rule(steps=st.integers(0, 7))
    def die_soon(self, steps: int) -> None:
        self.steps_left = steps

    @rule(work=WORKS)
    def submit(self, work: int) -> None:
        with self._mortal():
            job, _ = self.queue.submit(self._request(work))
            self.accepted[job.id] = work

    @rule(target=claims, worker=st.sampled_from("ab"))
    def claim(self, worker: str) -> Claimed | None:
        with self._mortal():
            job = self.queue.claim_next(worker)
            if job is not None:
                return Claimed(job)
        return None

    @rule(claim=claims)
    def beat(self, claim: Claimed | None) -> None:
        if claim is not None:
            with self._mortal(), self._lease_of(claim):
                self.queue.beat(claim.job, Progress(0, 1))

    @rule(claim=claims, digest=DIGESTS)
    def succeed(self, claim: Claimed | None, digest: str) -> None:
        """By the weights that were asked for, or by their successor: then asking again begins anew."""
        if claim is not None:
            with self._mortal(), self._lease_of(claim):
                payload = self.queue.keep(claim.job, result_of(claim.job, work_of(claim.job)))
                self.queue.succeed(claim.job, payload, {"model": "m", "version": "1", "digest": digest})

    @rule(claim=claims, for_good=st.booleans())
    def fail(self, claim: Claimed | None, for_good: bool) -> None:
        if claim is not None:
            with self._mortal(), self._lease_of(claim):
                self.queue.fail(claim.job, {"detail": "no"}, for_good=for_good)

    @rule(claim=claims)
    def postpone(self, claim: Claimed | None) -> None:
        if claim is not None:
            with self._mortal(), self._lease_of(claim):
                self.queue.postpone(claim.job, 1.0)

    @contextlib.contextmanager
    def _lease_of(self, claim: Claimed) -> Any:
        """Inside, a write is refused exactly where this claim isn't the one that counts."""
        found = self.records.get(claim.job.id)
        counts = found is not None and found.status == Status.RUNNING and found.fence == claim.job.fence
        try:
            yield
        except LeaseLost:
            assert not counts, "refused, though its lease counts"
        else:
            assert counts, "written by who has no lease"

    @rule(work=WORKS, again=st.booleans())
    def change(self, work: int, again: bool) -> None:
        """Cancel, or try again."""
        job_id = next((key for key, value in self.accepted.items() if value == work), None)
        if job_id is not None:
            with self._mortal(), contextlib.suppress(JobOver, JobExpired, JobUnfinished, UnknownJob):
                (self.queue.retry if again else self.queue.cancel)(job_id, "")

    @rule(observer=st.integers(0, 1))
    def sweep(self, observer: int) -> None:
        with self._mortal():
            self.observers[observer].free_lapsed(self.clock.monotonic)
            self.observers[observer].drop_expired()

    @rule()
    def tell(self) -> None:
        with self._mortal():
            self.teller.tell_all()

    @rule(claim=claims)
    def forget(self, claim: Claimed | None) -> None:
        """Who holds an old copy of a record can't remove what others made of it."""
        if claim is not None:
            found = self.records.get(claim.job.id)
            removed = found is not None and found.revision != claim.job.revision and self.records.remove(claim.job)
            assert not removed

    @rule(seconds=st.sampled_from([0.1, 10.0, LEASE_S, TTL_S / 2]))
    def pass_time(self, seconds: float) -> None:
        self.clock.pass_time(seconds)

    @rule(hours=st.sampled_from([-1, 1]))
    def clock_jumps(self, hours: int) -> None:
        self.clock.wall += 3600 * hours
        self.set_back_s += max(0, -3600 * hours)

    @rule()
    def everything_restarts(self) -> None:
        self.steps_left = None
        self._open()

    @invariant()
    def records_are_whole(self) -> None:
        for job_id, work in getattr(self, "accepted", {}).items():
            job = self.records.get(job_id)
            assert job is not None, "an accepted job is lost"
            revision, fence = self.newest.get(job_id, (0, 0))
            assert job.revision >= revision, "somebody wrote over a newer record"
            assert job.fence >= fence, "somebody wrote over a newer record"
            assert job.attempts <= MAX_ATTEMPTS
            self.newest[job_id] = (job.revision, job.fence)
            assert (job.status == Status.SUCCEEDED) == (job.result is not None)
            assert (job.status == Status.RUNNING) == (job.expires is None)
            if job.result is not None:
                assert self.queue_content(job) == result_of(job, work), "not what the newest claim gave"

    def queue_content(self, job: Job) -> bytes:
        assert job.result is not None
        return JobQueue(self.records, self.objects, max_waiting=1, max_attempts=1).content(job.result)

    def teardown(self) -> None:
        """Whoever is left does all that can be done: every job gets to an end."""
        if not hasattr(self, "clock"):
            return
        self.steps_left = None
        for _ in range(100):
            self.observers[0].free_lapsed(self.clock.monotonic)
            while (job := self.queue.claim_next("last")) is not None:
                self.queue.succeed(job, self.queue.keep(job, result_of(job, work_of(job))), {})
            if not self._unfinished():
                break
            self.clock.pass_time(LEASE_S / 4)
        assert not self._unfinished()
        self.records_are_whole()
        self._everybody_was_told()
        self.close_stores()

    def _everybody_was_told(self) -> None:
        """Of each end that still stands, once at least; a crash between telling and noting that tells twice. A clock
        that was set back makes notices late by as much."""
        self.clock.pass_time(self.set_back_s)
        for _ in range(MAX_NOTICES):
            self.teller.tell_all()
            self.clock.pass_time(MAX_BACKOFF_S + 1)
        for job_id in self.accepted:
            job = self.records.get(job_id)
            assert job is not None
            if job.notify and job.status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
                assert (job.id, job.fence, str(job.status)) in self.told

    def _unfinished(self) -> list[Job]:
        return [job for job in (self.queue.get(job_id, "") for job_id in self.accepted) if not job.is_over]

    def close_stores(self) -> None:
        self.records.close()
