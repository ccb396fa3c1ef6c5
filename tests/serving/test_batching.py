"""Exactly one outcome for every accepted request, whatever the lanes do."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from model_api.errors import (
    CallerLeft,
    DeadlineExceeded,
    ForwardFailed,
    LaneFailed,
    ModelApiError,
    ModelNotReady,
    QueueFull,
)
from model_api.processes.lane import LaneGone, Listener
from model_api.serving.batching import PATIENCE_S, Batcher
from model_api.serving.pending import Outputs
from model_api.serving.scheduling import Scheduler
from model_api.tasks.contract import Array
from tests.rigs.polling import wait_until

Behaviour = Callable[[Sequence[Array]], Sequence[Array]]


class Group:
    """Lanes that are functions on this process's threads: what a batcher sees of a process group."""

    def __init__(self, behaviour: Behaviour, n_lanes: int = 1, *, long_running: bool = False) -> None:
        self.behaviour = behaviour
        self.seconds_per_token = 1.0
        self.long_running = long_running
        self.interruptible = False
        self.max_batch_tokens: int | None = None
        self.open = True
        self.idle: list[Any] = [self] * n_lanes
        self.batches: list[int] = []
        self.started: dict[int, Sequence[Array]] = {}  # by runner thread, for this object is all of its lanes
        self.abandoned: Callable[[], bool] | None = None  # as the last batch was given it

    def is_open(self) -> bool:
        return self.open

    def idle_lanes(self) -> int:
        return len(self.idle)

    def take_lane(self) -> "Group | None":
        return self.idle.pop() if self.idle else None

    def put_lane(self, lane: Any) -> None:
        self.idle.append(lane)

    def start(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.started[threading.get_ident()] = arrays
        self.batches.append(len(arrays))
        self.abandoned = abandoned

    def outputs(self) -> Sequence[Array]:
        return self.behaviour(self.started.pop(threading.get_ident()))


class Gate:
    """A behaviour that tells when it is entered and waits to be opened."""

    def __init__(self, then: Behaviour) -> None:
        self.entered = threading.Semaphore(0)
        self.opened = threading.Event()
        self._then = then

    def __call__(self, arrays: Sequence[Array]) -> Sequence[Array]:
        self.entered.release()
        assert self.opened.wait(20)
        return self._then(arrays)


def double(arrays: Sequence[Array]) -> Sequence[Array]:
    return [array * 2 for array in arrays]


def row(*values: int) -> Array:
    return np.array(values, dtype=np.int32)


@pytest.fixture
def batcher() -> Iterator[Batcher]:
    made = Batcher(
        Scheduler(max_entries=4, max_batch_tokens=100, lanes=2), runners=2, on_batch=lambda rows, tokens: None
    )
    yield made
    made.stop()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def run(
    batcher: Batcher,
    group: Group,
    *rows: Array,
    within_s: float = 20.0,
    has_left: Callable[[], bool] = lambda: False,
    cost: int = 1,
) -> Outputs:
    deadline = time.monotonic() + within_s
    return batcher.run(group, rows, [cost] * len(rows), {}, caller="a", deadline=deadline, has_left=has_left)


def error_of(future: "Future[Outputs]") -> type[BaseException]:
    error = future.exception(timeout=20)
    assert error is not None
    return type(error)


def test_each_caller_gets_its_own_rows_in_order(batcher: Batcher) -> None:
    group = Group(double)
    outputs = run(batcher, group, row(1, 2), row(3), row(4, 5, 6))
    assert [list(array) for array in outputs.arrays] == [[2, 4], [6], [8, 10, 12]]


def test_what_queued_during_a_forward_is_the_next_batch(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate(double)
    group = Group(gate)
    first = callers.submit(run, batcher, group, row(1))
    gate.entered.acquire()
    others = [callers.submit(run, batcher, group, row(n)) for n in (2, 3, 4)]
    wait_until(lambda: batcher.queue_entries() == 4)
    gate.opened.set()
    assert [list(f.result(20).arrays[0]) for f in (first, *others)] == [[2], [4], [6], [8]]
    assert group.batches == [1, 3]


def test_a_batch_holds_no_more_than_the_models_author_says(batcher: Batcher) -> None:
    group = Group(double)
    group.max_batch_tokens = 2
    run(batcher, group, *(row(n) for n in range(5)))
    assert group.batches == [2, 2, 1]


def test_a_full_queue_refuses_at_once(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate(double)
    group = Group(gate)
    running = [callers.submit(run, batcher, group, row(n)) for n in range(4)]
    wait_until(lambda: batcher.queue_entries() == 4)
    with pytest.raises(QueueFull):
        run(batcher, group, row(5))
    gate.opened.set()
    assert [list(f.result(20).arrays[0]) for f in running] == [[0], [2], [4], [6]]
    assert batcher.queue_entries() == 0


def test_a_waiting_request_is_answered_at_its_deadline(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate(double)
    group = Group(gate)
    first = callers.submit(run, batcher, group, row(1))
    gate.entered.acquire()
    with pytest.raises(DeadlineExceeded):
        run(batcher, group, row(2), within_s=0.05)
    gate.opened.set()
    first.result(20)
    assert group.batches == [1]  # nobody computes what nobody waits for


def test_a_running_request_is_answered_at_its_deadline_too(batcher: Batcher) -> None:
    gate = Gate(double)
    with pytest.raises(DeadlineExceeded):
        run(batcher, Group(gate), row(1), within_s=0.05)
    assert batcher.queue_entries() == 0
    gate.opened.set()


def test_a_request_whose_caller_left_is_dropped(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    gate = Gate(double)
    group = Group(gate)
    first = callers.submit(run, batcher, group, row(1))
    gate.entered.acquire()
    left = callers.submit(run, batcher, group, row(2), has_left=lambda: True)
    wait_until(lambda: batcher.queue_entries() == 2)
    queued = time.monotonic()
    wait_until(lambda: time.monotonic() > queued + PATIENCE_S)
    gate.opened.set()
    first.result(20)
    assert error_of(left) is CallerLeft
    assert group.batches == [1]


def give_on(bad: int, number: float) -> Behaviour:
    return lambda arrays: [array * 2.0 if bad not in array else array * number for array in arrays]


def raise_on(bad: int, error: Exception) -> Behaviour:
    def forward(arrays: Sequence[Array]) -> Sequence[Array]:
        if any(bad in array for array in arrays):
            raise error
        return double(arrays)

    return forward


@pytest.mark.parametrize(
    "behaviour, expected",
    [
        pytest.param(raise_on(13, ForwardFailed("no")), ForwardFailed, id="raise"),
        pytest.param(raise_on(13, LaneGone("killed")), LaneFailed, id="crash"),
        pytest.param(give_on(13, np.nan), ForwardFailed, id="nan"),
        pytest.param(give_on(13, -np.inf), ForwardFailed, id="infinity"),
    ],
)
def test_one_bad_request_never_fails_its_neighbours(
    batcher: Batcher, callers: ThreadPoolExecutor, behaviour: Behaviour, expected: type[ModelApiError]
) -> None:
    gate = Gate(behaviour)
    group = Group(gate)
    first = callers.submit(run, batcher, group, row(1))
    gate.entered.acquire()
    others = [callers.submit(run, batcher, group, row(n)) for n in (12, 13, 14)]
    wait_until(lambda: batcher.queue_entries() == 4)
    gate.opened.set()
    first.result(20)
    assert [list(others[i].result(20).arrays[0]) for i in (0, 2)] == [[24], [28]]
    assert error_of(others[1]) is expected


def test_a_crash_is_retried_once_elsewhere(batcher: Batcher) -> None:
    crashes = iter([True, False])

    def crash_once(arrays: Sequence[Array]) -> Sequence[Array]:
        if next(crashes):
            raise LaneGone("killed")
        return double(arrays)

    assert list(run(batcher, Group(crash_once, n_lanes=2), row(4)).arrays[0]) == [8]


def test_a_model_that_loses_outputs_fails_the_request_and_not_the_thread(batcher: Batcher) -> None:
    group = Group(lambda arrays: [])
    with pytest.raises(ForwardFailed):
        run(batcher, group, row(1))
    group.behaviour = double
    assert list(run(batcher, group, row(1)).arrays[0]) == [2]


def test_a_mistake_of_our_own_reaches_the_caller_and_leaves_the_thread_alive(batcher: Batcher) -> None:
    def broken(arrays: Sequence[Array]) -> Sequence[Array]:
        raise RuntimeError("a bug")

    group = Group(broken)
    for _ in range(3):
        with pytest.raises(ForwardFailed):
            run(batcher, group, row(1))
    group.behaviour = double
    assert list(run(batcher, group, row(1)).arrays[0]) == [2]


def test_a_group_that_goes_away_answers_who_waits_for_it(batcher: Batcher, callers: ThreadPoolExecutor) -> None:
    group = Group(double, n_lanes=0)
    waiting = callers.submit(run, batcher, group, row(1))
    wait_until(lambda: batcher.queue_entries() == 1)
    group.open = False
    batcher.fail_group(group, ModelNotReady("m", "its processes ended"))
    assert error_of(waiting) is ModelNotReady
    with pytest.raises(ModelNotReady):
        run(batcher, group, row(1))


def test_a_request_without_rows_needs_no_lane(batcher: Batcher) -> None:
    assert run(batcher, Group(double, n_lanes=0)).arrays == []


def test_stop_answers_everyone(callers: ThreadPoolExecutor) -> None:
    batcher = Batcher(Scheduler(max_entries=4, max_batch_tokens=100, lanes=1), runners=1, on_batch=lambda *_: None)
    waiting = callers.submit(run, batcher, Group(double, n_lanes=0), row(1))
    wait_until(lambda: batcher.queue_entries() == 1)
    batcher.stop()
    assert error_of(waiting) is ModelNotReady


def test_many_callers_each_get_their_own_answer(callers: ThreadPoolExecutor) -> None:
    batcher = Batcher(Scheduler(max_entries=64, max_batch_tokens=50, lanes=2), runners=2, on_batch=lambda *_: None)
    group = Group(double, n_lanes=2)

    def ask(n: int) -> bool:
        outputs = run(batcher, group, *(row(n, i) for i in range(n % 7 + 1)))
        return [list(a) for a in outputs.arrays] == [[2 * n, 2 * i] for i in range(n % 7 + 1)]

    assert all(callers.map(ask, range(500)))
    batcher.stop()


def test_what_a_token_costs_is_learnt_from_batches(batcher: Batcher) -> None:
    group = Group(double)
    for _ in range(50):
        run(batcher, group, row(1), cost=10)
    assert 0 < group.seconds_per_token < 0.1  # it began at a second, and no batch took that long
