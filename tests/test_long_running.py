"""Batches of models that take seconds have a runner of their own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from model_api.batching import Batcher
from model_api.scheduling import Scheduler
from tests.test_batching import Gate, Group, double, row, run


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
