"""The queue in the web process and the threads that empty it: one runner per core takes what is next to a free lane,
and one more does so for the models whose batches take seconds.

No timer: what queued while the lanes were busy is the next batch. Every accepted request gets exactly one outcome: its
outputs, an error, or DeadlineExceeded / CallerLeft when nobody needs them any more.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import orjson

from model_api.errors import CallerLeft, DeadlineExceeded, ForwardFailed, LaneFailed, ModelApiError, ModelNotReady
from model_api.scheduling import Batch, Entry, Scheduler
from model_api.tasks import Array

log = logging.getLogger(__name__)

# A forward is given this much longer than its callers' deadline: killing a lane costs its successors a restart.
FORWARD_GRACE_S = 5.0
LONG_BATCH_TOKENS = 5120  # of a long-running batch, input and new tokens: eight articles and their summaries
COST_SMOOTHING = 0.1  # share of the newest batch in the running mean of a token's cost
MAX_CRASHES = 2  # one retry elsewhere
GOING_AWAY = "its processes are going away"


class LaneGone(Exception):
    """The lane died or was killed in mid-forward; what it ran may run elsewhere."""


class Lane(Protocol):
    """One model process."""

    def forward(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
    ) -> Sequence[Array]:
        """One output per array, in order. Raises ForwardFailed if the model raised, LaneGone if the process died, or
        was ended because `abandoned`, which is asked now and then, said that nobody waits for the outputs."""


class LaneGroup(Hashable, Protocol):
    """The lanes of one loaded version. Called by the batcher under its lock, so it must not block."""

    long_running: bool
    """Whether a batch takes seconds; such batches have a runner of their own and never hold the others'."""

    seconds_per_token: float
    """What a token of this version costs, as its batches show; the batcher keeps it up to date under its lock."""

    def is_open(self) -> bool:
        """False once the version goes away; from then on nothing is queued for it."""

    def take_lane(self) -> Lane | None: ...
    def has_lane(self) -> bool: ...
    def put_lane(self, lane: Lane) -> None: ...


@dataclass(frozen=True)
class Outputs:
    """A request's outcome: one array per row, and what became of it on the way."""

    arrays: Sequence[Array]
    queue_ms: float
    forward_ms: float
    batch_size: int


@dataclass(eq=False, kw_only=True)
class _Request(Entry):
    """An entry with its payload and its outcome."""

    arrays: Sequence[Array]
    forward_parameters: Mapping[str, Any]
    deadline: float  # time.monotonic seconds
    has_left: Callable[[], bool]
    outcome: Future[Outputs] = field(default_factory=Future)
    results: dict[int, Array] = field(default_factory=dict)
    crashes: int = 0
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    batch_size: int = 0


class Batcher:
    """The queue of one web process. All methods may be called on any thread."""

    def __init__(self, scheduler: Scheduler, *, runners: int, on_batch: Callable[[int, int], None]) -> None:
        """`on_batch(rows, tokens)` is called on a runner thread for every batch, for the metrics."""
        self._scheduler = scheduler
        self._on_batch = on_batch
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._long_changed = threading.Condition(lock)  # the same, for the runner of long batches
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(i == runners,), name=f"runner-{i}", daemon=True)
            for i in range(runners + 1)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self,
        lanes: LaneGroup,
        arrays: Sequence[Array],
        costs: Sequence[int],
        parameters: Mapping[str, Any],
        *,
        caller: str,
        deadline: float,
        has_left: Callable[[], bool],
    ) -> Outputs:
        """Queue the rows and wait for their outputs.

        Raises QueueFull at once, DeadlineExceeded at the deadline, CallerLeft, ModelNotReady if the version goes away,
        LaneFailed after a second crash, ForwardFailed if the model raises on these rows.
        """
        request = _Request(
            group=lanes,
            parameters=orjson.dumps(dict(parameters), option=orjson.OPT_SORT_KEYS),
            costs=costs,
            caller=caller,
            weight=lanes.seconds_per_token,
            arrays=arrays,
            forward_parameters=parameters,
            deadline=deadline,
            has_left=has_left,
            max_batch_tokens=LONG_BATCH_TOKENS if lanes.long_running else None,
        )
        if not arrays:
            return Outputs([], 0.0, 0.0, 0)
        with self._changed:
            if self._stopping or not lanes.is_open():
                raise ModelNotReady("this version", GOING_AWAY)
            self._scheduler.add(request)
            self._condition(lanes).notify()
        try:
            return request.outcome.result(timeout=max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            with self._changed:
                self._finish(request, DeadlineExceeded("no answer within the request's time limit"))
            return request.outcome.result()  # the outcome may have come just before

    def lanes_changed(self) -> None:
        """A lane became free without a runner's doing: it was started anew."""
        with self._changed:
            self._notify_all()

    def fail_group(self, lanes: LaneGroup, error: ModelApiError) -> None:
        """The version is gone: whatever waits for it gets `error`. What runs ends by itself."""
        with self._changed:
            for entry in self._scheduler.waiting():
                if entry.group is lanes:
                    self._finish(entry, error)

    def queue_entries(self) -> int:
        with self._changed:
            return len(self._scheduler)

    def stop(self) -> None:
        """Fail what waits, let what runs end, and join the runners."""
        with self._changed:
            self._stopping = True
            for entry in self._scheduler.waiting():
                self._finish(entry, ModelNotReady("this version", GOING_AWAY))
            self._notify_all()
        for thread in self._threads:
            thread.join()

    def _finish(self, entry: Entry, outcome: Outputs | ModelApiError) -> None:
        """Under the lock: the one place where an entry gets its outcome; a second one is ignored."""
        assert isinstance(entry, _Request)
        if entry.outcome.done():
            return
        self._scheduler.remove(entry)
        if isinstance(outcome, Outputs):
            entry.outcome.set_result(outcome)
        else:
            entry.outcome.set_exception(outcome)

    def _condition(self, group: LaneGroup) -> threading.Condition:
        return self._long_changed if group.long_running else self._changed

    def _notify_all(self) -> None:
        self._changed.notify_all()
        self._long_changed.notify_all()

    def _run(self, takes_long: bool) -> None:
        """A runner thread: lives as long as the batcher, whatever a batch does."""
        changed = self._long_changed if takes_long else self._changed
        while True:
            with changed:
                while not self._stopping and (work := self._next(takes_long)) is None:
                    changed.wait()
                if self._stopping:
                    return
            assert work is not None
            batch, group, lane = work
            try:
                self._forward(batch, lane)
            except Exception:  # our own mistake: its callers must hear of it, and the thread must live
                log.exception("a batch failed outside of the model")
                with self._changed:
                    for entry, _ in batch.parts:
                        self._finish(entry, ForwardFailed("the batch failed"))
            with self._changed:
                group.put_lane(lane)
                self._condition(group).notify()

    def _next(self, takes_long: bool) -> tuple[Batch, LaneGroup, Lane] | None:
        """Under the lock: the next batch with the lane that will run it, leaving out whom nobody waits for any more."""
        while batch := self._scheduler.next_batch(lambda group: _can_run(group, takes_long)):
            now = time.monotonic()
            for entry, _ in batch.parts:
                assert isinstance(entry, _Request)
                if entry.deadline <= now:
                    self._finish(entry, DeadlineExceeded("no answer within the request's time limit"))
                elif entry.has_left():
                    self._finish(entry, CallerLeft("the client closed its connection"))
            parts = [(e, rows) for e, rows in batch.parts if isinstance(e, _Request) and not e.outcome.done()]
            if parts:
                group = cast(LaneGroup, parts[0][0].group)
                lane = group.take_lane()
                assert lane is not None
                return Batch(parts), group, lane
        return None

    def _forward(self, batch: Batch, lane: Lane) -> None:
        parts = [(entry, rows) for entry, rows in batch.parts if isinstance(entry, _Request)]
        n_rows = sum(len(rows) for _, rows in parts)
        started = time.monotonic()
        for entry, _ in parts:
            entry.started_at = entry.started_at or started
            entry.batch_size = max(entry.batch_size, n_rows)
        timeout_s = max(entry.deadline for entry, _ in parts) - started + FORWARD_GRACE_S
        failure: Exception | None = None
        try:
            arrays = [entry.arrays[row] for entry, rows in parts for row in rows]
            outputs = lane.forward(
                arrays,
                parts[0][0].forward_parameters,
                timeout_s,
                # A lane that dies costs its successors a restart: worth it for seconds of work, not for milliseconds.
                _abandoned(parts) if cast(LaneGroup, parts[0][0].group).long_running else None,
            )
            if len(outputs) != n_rows:
                raise ForwardFailed(f"the model gave {len(outputs)} outputs for {n_rows} rows")
        except (ForwardFailed, LaneGone) as error:
            failure = error
        self._on_batch(n_rows, batch.tokens)
        with self._changed:
            if failure is not None:
                for entry, rows in parts:
                    self._retry_or_fail(entry, rows, failure, in_company=len(parts) > 1)
                self._notify_all()
                return
            results = iter(outputs)
            ended = time.monotonic()
            group = cast(LaneGroup, parts[0][0].group)
            group.seconds_per_token += COST_SMOOTHING * ((ended - started) / batch.tokens - group.seconds_per_token)
            for entry, rows in parts:
                entry.results.update(zip(rows, results, strict=False))
                if len(entry.results) == len(entry.arrays):
                    arrays = [entry.results[row] for row in range(len(entry.arrays))]
                    queue_ms = (entry.started_at - entry.queued_at) * 1e3
                    self._finish(entry, Outputs(arrays, queue_ms, (ended - entry.started_at) * 1e3, entry.batch_size))

    def _retry_or_fail(self, entry: _Request, rows: Sequence[int], failure: Exception, *, in_company: bool) -> None:
        """Under the lock: what failed in company runs again alone, so that only the culprit fails."""
        if entry.outcome.done():
            return
        if isinstance(failure, LaneGone):
            entry.crashes += 1
            if not cast(LaneGroup, entry.group).is_open():
                self._finish(entry, ModelNotReady("this version", GOING_AWAY))
                return
            if entry.crashes >= MAX_CRASHES:
                self._finish(entry, LaneFailed("the model process died twice under this request"))
                return
        elif not in_company:
            self._finish(entry, ForwardFailed("the model failed on this input"))
            return
        self._scheduler.put_back(entry, rows)


def _abandoned(parts: Sequence[tuple[_Request, Sequence[int]]]) -> Callable[[], bool]:
    return lambda: all(entry.outcome.done() or entry.has_left() for entry, _ in parts)


def _can_run(group: Hashable, takes_long: bool) -> bool:
    lanes = cast(LaneGroup, group)
    return lanes.long_running == takes_long and lanes.has_lane()
