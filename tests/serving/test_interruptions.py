"""Forwards that can be interrupted: turns, what is gone on with, what is told on the way."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from model_api.errors import CallerLeft, LaneFailed
from model_api.processes.lane import LaneGone, LaneLeft, Listener
from model_api.serving.batching import Batcher
from model_api.serving.pending import pending_request
from model_api.serving.scheduling import QueueEntry, Scheduler
from model_api.tasks.contract import Array
from tests.rigs.polling import wait_until
from tests.serving.test_batching import Group, double, error_of, row, run


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    scheduler = Scheduler(max_entries=4, max_batch_tokens=100, lanes=2)
    made = Batcher(scheduler, runners=1, on_batch=lambda rows, tokens: None)
    yield made
    made.stop()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Interruptible(Group):
    """Lanes whose forwards end at once with what to go on with, as long as somebody wants them to leave."""

    def __init__(self, gate: Any) -> None:
        super().__init__(gate, long_running=True)
        self.interruptible = True
        self.listeners: list[Listener] = []

    def start(
        self, arrays: Any, parameters: Any, timeout_s: float, abandoned: Any = None, listener: Any = None
    ) -> None:
        super().start(arrays, parameters, timeout_s, abandoned)
        self.listeners.append(listener)


def test_what_can_be_interrupted_goes_on_when_its_turn_comes(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    ran: list[list[int]] = []
    waiting = threading.Event()

    def forward(arrays: Sequence[Array]) -> Sequence[Array]:
        ran.append(arrays[0].tolist())
        if arrays[0].tolist() == [1]:
            assert waiting.wait(20)
            wait_until(lambda: group.listeners[0].wanted() == "others")
            raise LaneLeft([row(1, 9)])
        return arrays

    group = Interruptible(forward)
    long = callers.submit(run, batcher, group, row(1), cost=50)
    wait_until(lambda: bool(group.listeners))
    assert group.listeners[0].wanted() == ""
    short = callers.submit(run, batcher, group, row(2), cost=3)
    waiting.set()
    assert [list(array) for array in short.result(20).arrays] == [[2]]
    assert [list(array) for array in long.result(20).arrays] == [[1, 9]]
    assert ran == [[1], [2], [1, 9]]


def test_each_batch_of_what_can_be_interrupted_is_one_row(batcher: Batcher) -> None:
    group = Interruptible(double)
    assert [list(array) for array in run(batcher, group, row(1), row(2), row(3)).arrays] == [[2], [4], [6]]
    assert group.batches == [1, 1, 1]


def test_what_nobody_waits_for_is_left_and_not_gone_on_with(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gone = threading.Event()

    def forward(arrays: Sequence[Array]) -> Sequence[Array]:
        gone.set()
        wait_until(lambda: group.listeners[0].wanted() == "nobody")
        raise LaneLeft([row(1, 9)])

    group = Interruptible(forward)
    left = callers.submit(run, batcher, group, row(1), has_left=gone.is_set)
    assert error_of(left) is CallerLeft
    assert group.batches == [1]


def test_a_piece_is_told_once_whichever_forward_tells_it(batcher: Batcher) -> None:
    def forward(arrays: Sequence[Array]) -> Sequence[Array]:
        on_part = group.listeners[-1].on_part
        assert on_part is not None
        on_part("one ", 0)
        if len(group.listeners) == 1:
            raise LaneLeft(list(arrays))
        on_part("two", 4)
        return arrays

    group = Interruptible(forward)
    parts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    how: dict[str, Any] = {"caller": "a", "deadline": time.monotonic() + 20, "has_left": lambda: False, "parts": parts}
    batcher.submit(pending_request(group, [row(1)], [1], {}, **how))
    assert [parts.get(timeout=20) for _ in range(3)] == ["one ", "two", None]


def test_what_was_told_is_not_begun_again_by_another_lane(batcher: Batcher) -> None:
    def forward(arrays: Sequence[Array]) -> Sequence[Array]:
        on_part = group.listeners[-1].on_part
        assert on_part is not None
        on_part("one ", 0)
        raise LaneGone("killed")

    group = Interruptible(forward)
    parts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    how: dict[str, Any] = {"caller": "a", "deadline": time.monotonic() + 20, "has_left": lambda: False, "parts": parts}
    request = pending_request(group, [row(1)], [1], {}, **how)
    batcher.submit(request)
    assert [parts.get(timeout=20) for _ in range(2)] == ["one ", None]
    assert isinstance(request.outcome, LaneFailed)


def test_turns_between_callers_are_by_what_was_really_served() -> None:
    scheduler = Scheduler(max_entries=9, max_batch_tokens=100, lanes=1)

    def entry(caller: str, cost: int) -> QueueEntry:
        made = QueueEntry(group="g", parameters="", costs=[cost], caller=caller, max_batch_tokens=1)
        scheduler.add(made)
        return made

    def next_entry() -> QueueEntry:
        batch = scheduler.next_batch(lambda group: 1)
        assert batch is not None
        return batch.parts[0][0]

    long = entry("a", 1000)
    assert next_entry() is long
    assert not scheduler.is_in_the_way(long, lambda group: True)
    other = entry("b", 500)
    assert scheduler.is_in_the_way(long, lambda group: True)
    assert not scheduler.is_in_the_way(long, lambda group: False)
    scheduler.put_back_unfinished(long, 0, 990)
    assert next_entry() is other
    scheduler.put_back_unfinished(other, 0, 480)
    assert next_entry() is long  # 10 tokens so far, beside 20
    small = entry("a", 5)
    assert scheduler.is_in_the_way(long, lambda group: True)
    scheduler.put_back_unfinished(long, 0, 950)
    assert next_entry() is other
    scheduler.remove(other)
    assert next_entry() is small
