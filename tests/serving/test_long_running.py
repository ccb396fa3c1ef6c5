"""Batches of models that take seconds have a runner of their own."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from model_api.errors import CallerLeft, DeadlineExceeded
from model_api.processes.lane import LaneGone
from model_api.serving.batching import Batcher
from model_api.serving.scheduling import Scheduler
from model_api.tasks.contract import Array
from tests.rigs.polling import wait_until
from tests.serving.test_batching import Gate, Group, double, row, run


def test_a_short_request_does_not_wait_for_long_ones() -> None:
    batcher = Batcher(
        Scheduler(max_entries=20, max_batch_tokens=100, lanes=1), runners=1, on_batch=lambda rows, tokens: None
    )
    gate = Gate(double)
    long, other, short = Group(gate, long_running=True), Group(gate, long_running=True), Group(double)
    with ThreadPoolExecutor(8) as callers:
        waiting = [callers.submit(run, batcher, group, row(1), cost=5000) for group in (long, long, other)]
        gate.entered.acquire()
        began = time.monotonic()
        assert list(run(batcher, short, row(2)).arrays[0]) == [4]
        assert time.monotonic() - began < 10
        assert not any(future.done() for future in waiting)
        gate.opened.set()
        assert [list(future.result(20).arrays[0]) for future in waiting] == [[2]] * 3
    batcher.stop()
    assert not [t for t in threading.enumerate() if t.name.startswith("runner-")]


def test_a_long_batch_holds_as_many_rows_as_its_own_limit_says() -> None:
    batcher = Batcher(
        Scheduler(max_entries=20, max_batch_tokens=100, lanes=4), runners=1, on_batch=lambda rows, tokens: None
    )
    group = Group(double, long_running=True)
    run(batcher, group, *(row(i) for i in range(10)), cost=600)
    assert sorted(group.batches) == [2, 8]  # 5120 tokens at most
    batcher.stop()


def test_a_long_batch_ends_when_nobody_waits_for_it() -> None:
    batcher = Batcher(
        Scheduler(max_entries=20, max_batch_tokens=100, lanes=1), runners=1, on_batch=lambda rows, tokens: None
    )
    entered, left = threading.Event(), threading.Event()

    def until_abandoned(arrays: Sequence[Array]) -> Sequence[Array]:
        if left.is_set():  # the batch after
            return double(arrays)
        entered.set()
        assert group.abandoned is not None
        wait_until(group.abandoned)
        raise LaneGone("nobody waits")

    group = Group(until_abandoned, long_running=True)
    group.idle.clear()  # until both are queued, to be one batch
    with ThreadPoolExecutor(2) as callers:
        impatient = callers.submit(run, batcher, group, row(1), within_s=2)
        leaving = callers.submit(run, batcher, group, row(2), has_left=left.is_set)
        wait_until(lambda: batcher.queue_entries() == 2)
        group.idle.append(group)
        batcher.lanes_changed()
        assert entered.wait(20)
        assert isinstance(impatient.exception(20), DeadlineExceeded)
        assert group.abandoned is not None
        assert not group.abandoned()
        left.set()
        assert isinstance(leaving.exception(20), CallerLeft)
    assert group.batches == [2]
    assert list(run(batcher, group, row(3)).arrays[0]) == [6]
    short = Group(double)
    run(batcher, short, row(1))
    assert short.abandoned is None  # milliseconds aren't worth a lane
    batcher.stop()
