"""The queue in the web process and the threads that empty it: one runner per core takes what is next to a free lane,
and one more does so for the models whose batches take seconds.

No timer: what queued while the lanes were busy is the next batch. Every accepted request gets exactly one outcome: its
outputs, an error, or DeadlineExceeded / CallerLeft when nobody needs them any more.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from model_api.errors import CallerLeft, DeadlineExceeded, ForwardFailed, LaneFailed, ModelApiError, ModelNotReady
from model_api.processes.lane import LaneGone, LaneGroup, LaneLeft, Listener
from model_api.serving.pending import Outputs, PendingRequest, RunningBatch, abandoned, failures_of, pending_request
from model_api.serving.scheduling import QueueEntry, Scheduler
from model_api.serving.turnstile import leave_early
from model_api.tasks.contract import Array

log = logging.getLogger(__name__)

# A forward is given this much longer than its callers' deadline: killing a lane costs its successors a restart.
FORWARD_GRACE_S = 5.0
COST_SMOOTHING = 0.1  # share of the newest batch in the running mean of a token's cost
MAX_CRASHES = 2  # one retry elsewhere
PATIENCE_S = 0.05  # asking whether a caller left costs a system call: not worth it for who waited less
# Weights may pass every check of the load, and still hold a NaN where some caller's words are looked up.
NOT_FINITE = "the model gives NaN or infinity on this input"
GOING_AWAY = "its processes are going away"


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
        request = pending_request(lanes, arrays, costs, parameters, caller=caller, deadline=deadline, has_left=has_left)
        if not arrays:
            return Outputs([], 0.0, 0.0, 0)
        self.submit(request)
        if not request.ended.acquire(timeout=max(0.0, deadline - time.monotonic())):
            with self._changed:  # the outcome may have come just before
                self._finish(request, DeadlineExceeded("no answer within the request's time limit"))
        assert request.outcome is not None
        if isinstance(request.outcome, Outputs):
            return request.outcome
        raise request.outcome

    def submit(self, request: PendingRequest) -> None:
        """Queue it, and don't wait. Raises QueueFull, ModelNotReady."""
        with self._changed:
            lanes = cast(LaneGroup, request.group)
            if self._stopping or not lanes.is_open():
                raise ModelNotReady("this version", GOING_AWAY)
            self._scheduler.add(request)
            self._condition(lanes).notify()
        leave_early()

    def give_up(self, request: PendingRequest, outcome: ModelApiError) -> None:
        """Nobody waits for it any more; without effect where it has its outcome."""
        with self._changed:
            self._finish(request, outcome)

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
            self._fail_waiting()
            self._notify_all()
        for thread in self._threads:
            thread.join()

    def _settle(self, entry: QueueEntry, outcome: Outputs | ModelApiError) -> bool:
        """Under the lock: the one place where an entry gets its outcome; whether it was the first."""
        assert isinstance(entry, PendingRequest)
        if entry.outcome is not None:
            return False
        self._scheduler.remove(entry)
        entry.outcome = outcome
        return True

    def _finish(self, entry: QueueEntry, outcome: Outputs | ModelApiError) -> None:
        """Under the lock: settle, and wake the caller."""
        assert isinstance(entry, PendingRequest)
        if self._settle(entry, outcome):
            entry.wake()

    def _fail_waiting(self) -> None:
        for entry in self._scheduler.waiting():
            self._finish(entry, ModelNotReady("this version", GOING_AWAY))

    def _condition(self, group: LaneGroup) -> threading.Condition:
        return self._long_changed if group.long_running else self._changed

    def _notify_all(self) -> None:
        self._changed.notify_all()
        self._long_changed.notify_all()

    def _run(self, takes_long: bool) -> None:
        """A runner thread: lives as long as the batcher, whatever a batch does."""
        changed = self._long_changed if takes_long else self._changed
        settled: Sequence[
            PendingRequest
        ] = ()  # by the batch before: a lane gets its next batch before their callers wake
        while True:
            with changed:
                work = self._next(takes_long)
                while work is None and not settled and not self._stopping:
                    changed.wait()
                    work = self._next(takes_long)
            if work is not None:
                self._start(work)
            for entry in settled:
                entry.wake()
            settled = ()
            if work is not None:
                settled = self._complete(work)
            elif self._stopping:
                return

    def _next(self, takes_long: bool) -> RunningBatch | None:
        """Under the lock: the next batch with the lane that will run it, leaving out whom nobody waits for any more."""
        if self._stopping:
            self._fail_waiting()
            return None

        def idle_lanes(group: Hashable) -> int:
            lanes = cast(LaneGroup, group)
            return lanes.idle_lanes() if lanes.long_running == takes_long else 0

        while batch := self._scheduler.next_batch(idle_lanes):
            now = time.monotonic()
            for entry, _ in batch.parts:
                assert isinstance(entry, PendingRequest)
                if entry.deadline <= now:
                    self._finish(entry, DeadlineExceeded("no answer within the request's time limit"))
                elif now - entry.queued_at > PATIENCE_S and entry.has_left():
                    self._finish(entry, CallerLeft("the client closed its connection"))
            parts = [(e, rows) for e, rows in batch.parts if isinstance(e, PendingRequest) and e.outcome is None]
            if parts:
                group = cast(LaneGroup, parts[0][0].group)
                lane = group.take_lane()
                assert lane is not None
                return RunningBatch(parts, group, lane, now)
        return None

    def _start(self, work: RunningBatch) -> None:
        """Hand a batch to its lane."""
        for entry, _ in work.parts:
            entry.started_at = entry.started_at or work.started_at
            entry.batch_size = max(entry.batch_size, work.n_rows)
        timeout_s = max(entry.deadline for entry, _ in work.parts) - work.started_at + FORWARD_GRACE_S
        arrays = [entry.arrays[row] for entry, rows in work.parts for row in rows]
        with failures_of(work):
            # A lane that dies costs its successors a restart: worth it for seconds of work, not for milliseconds.
            ask = abandoned(work.parts) if work.group.long_running else None
            more = {"listener": self._listener(work)} if work.group.interruptible else {}
            work.lane.start(arrays, work.parts[0][0].forward_parameters, timeout_s, ask, **more)

    def _listener(self, work: RunningBatch) -> Listener:
        """To a batch that can be interrupted, which is one row."""
        ((entry, _),) = work.parts
        nobody_waits = abandoned(work.parts)

        def could_run(group: Hashable) -> bool:
            lanes = cast(LaneGroup, group)
            return lanes.long_running == work.group.long_running and (lanes is work.group or lanes.idle_lanes() > 0)

        def wanted() -> str:
            if nobody_waits():
                return "nobody"
            with self._changed:
                return "others" if self._scheduler.is_in_the_way(entry, could_run) else ""

        return Listener(wanted, None if entry.parts is None else entry.take_part)

    def _interrupted(self, entry: PendingRequest, row: int, array: Array) -> None:
        """Under the lock: a row goes on where it was, when its turn comes."""
        if entry.outcome is not None:
            return
        if entry.has_left():
            self._finish(entry, CallerLeft("the client closed its connection"))
            return
        used_tokens = len(array) - len(entry.arrays[row])
        entry.arrays = [array if index == row else other for index, other in enumerate(entry.arrays)]
        self._scheduler.put_back_unfinished(entry, row, max(0, entry.costs[row] - used_tokens))

    def _complete(self, work: RunningBatch) -> list[PendingRequest]:
        """Wait for the outputs of a batch; the requests that are settled by them, whose callers still sleep."""
        outputs: Sequence[Array | None] = ()  # None: NaN or infinity
        with failures_of(work):
            if work.failure is None:
                outputs = work.lane.outputs()
                if len(outputs) != work.n_rows:
                    raise ForwardFailed(f"the model gave {len(outputs)} outputs for {work.n_rows} rows")
                outputs = [output if np.isfinite(output).all() else None for output in outputs]
        tokens = sum(entry.costs[row] for entry, rows in work.parts for row in rows)
        self._on_batch(work.n_rows, tokens)
        settled: list[PendingRequest] = []
        with self._changed:
            work.group.put_lane(work.lane)
            self._condition(work.group).notify()
            if isinstance(work.failure, LaneLeft):
                ((entry, (row,)),) = work.parts
                self._interrupted(entry, row, work.failure.arrays[0])
                self._notify_all()
                return []
            if work.failure is not None:
                for entry, rows in work.parts:
                    self._retry_or_fail(entry, rows, work.failure, in_company=len(work.parts) > 1)
                self._notify_all()
                return []
            ended = time.monotonic()
            per_token = (ended - work.started_at) / tokens
            work.group.seconds_per_token += COST_SMOOTHING * (per_token - work.group.seconds_per_token)
            results = iter(outputs)
            for entry, rows in work.parts:
                answers = {row: output for row in rows if (output := next(results)) is not None}
                if len(answers) < len(rows):
                    self._retry_or_fail(entry, rows, ForwardFailed(NOT_FINITE), in_company=len(work.parts) > 1)
                    continue
                entry.results.update(answers)
                if len(entry.results) == len(entry.arrays):
                    arrays = [entry.results[row] for row in range(len(entry.arrays))]
                    queue_ms = (entry.started_at - entry.queued_at) * 1e3
                    outcome = Outputs(arrays, queue_ms, (ended - entry.started_at) * 1e3, entry.batch_size)
                    if self._settle(entry, outcome):
                        settled.append(entry)
        return settled

    def _retry_or_fail(
        self, entry: PendingRequest, rows: Sequence[int], failure: ForwardFailed | LaneGone, *, in_company: bool
    ) -> None:
        """Under the lock: what failed in company runs again alone, so that only the culprit fails."""
        if entry.outcome is not None:
            return
        if isinstance(failure, LaneGone):
            entry.crashes += 1
            if entry.told_chars:  # what another lane makes of it needn't go on with what was told
                self._finish(entry, LaneFailed("the model process died under the request"))
                return
            if not cast(LaneGroup, entry.group).is_open():
                self._finish(entry, ModelNotReady("this version", GOING_AWAY))
                return
            if entry.crashes >= MAX_CRASHES:
                self._finish(entry, LaneFailed("the model process died twice under this request"))
                return
        elif not in_company:
            self._finish(entry, failure)
            return
        self._scheduler.put_back(entry, rows)
