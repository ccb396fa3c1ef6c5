"""Who is next, and with whom."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_api.errors import QueueFull
from model_api.serving.scheduling import Batch, QueueEntry, Scheduler


def entry(*costs: int, caller: str = "a", group: str = "m", parameters: str = "", weight: float = 1.0) -> QueueEntry:
    return QueueEntry(group=group, parameters=parameters, costs=list(costs), caller=caller, weight=weight)


def scheduler(max_entries: int = 100, max_batch_tokens: int = 512, lanes: int = 2) -> Scheduler:
    return Scheduler(max_entries=max_entries, max_batch_tokens=max_batch_tokens, lanes=lanes)


def take(queue: Scheduler) -> Batch:
    batch = queue.next_batch(lambda group: 1)
    assert batch is not None
    return batch


def first_of(queue: Scheduler) -> QueueEntry:
    return take(queue).parts[0][0]


def first_of_after_adding(queue: Scheduler, newcomer: QueueEntry) -> QueueEntry:
    queue.add(newcomer)
    return first_of(queue)


def test_small_requests_share_a_batch() -> None:
    queue = scheduler()
    entries = [entry(6, 7), entry(5), entry(8)]
    for e in entries:
        queue.add(e)
    batch = take(queue)
    assert {id(e) for e, _ in batch.parts} == {id(e) for e in entries}
    assert batch.tokens == 26
    assert queue.next_batch(lambda group: 1) is None


def test_a_batch_keeps_to_the_token_budget() -> None:
    queue = scheduler(max_batch_tokens=100, lanes=1)
    queue.add(entry(*[30] * 10))
    assert [take(queue).tokens for _ in range(4)] == [90, 90, 90, 30]


def test_an_input_beyond_the_budget_runs_alone() -> None:
    queue = scheduler(max_batch_tokens=100)
    queue.add(entry(5000, 10))
    assert take(queue).tokens == 5000
    assert take(queue).tokens == 10


def test_a_lone_request_is_spread_over_the_lanes() -> None:
    queue = scheduler(max_batch_tokens=512, lanes=2)
    queue.add(entry(*[50] * 8))
    assert [take(queue).tokens for _ in range(3)] == [200, 100, 100]


def test_a_small_request_overtakes_a_big_one_that_came_before() -> None:
    queue = scheduler(lanes=1)
    big, small = entry(*[100] * 30), entry(8, 8)
    queue.add(big)
    assert first_of(queue) is big
    queue.add(small)
    assert first_of(queue) is small


def test_ageing_a_big_request_is_not_starved_by_small_ones_that_keep_coming() -> None:
    queue = scheduler(max_batch_tokens=100, lanes=1)
    big = entry(100)
    queue.add(big)
    overtakers = 0
    while first_of_after_adding(queue, entry(60)) is not big:
        overtakers += 1
    assert 1 <= overtakers <= 100 * 8 / 60 + 1


def test_equals_go_one_after_the_other_in_order_of_arrival() -> None:
    queue = scheduler(max_batch_tokens=100, lanes=1)
    first, second = entry(*[100] * 5), entry(*[100] * 5)
    queue.add(first)
    queue.add(second)
    order = [first_of(queue) for _ in range(10)]
    assert order == [first] * 5 + [second] * 5


def test_callers_take_turns_however_much_one_of_them_asks() -> None:
    queue = scheduler(max_batch_tokens=100, lanes=1)
    for _ in range(20):
        queue.add(entry(100, caller="greedy"))
    queue.add(entry(100, caller="modest"))
    order = [first_of(queue).caller for _ in range(3)]
    assert "modest" in order[:2]


def test_being_away_saves_up_no_service() -> None:
    queue = scheduler(max_batch_tokens=100, lanes=1)
    for _ in range(50):
        queue.add(entry(100, caller="early"))
    for _ in range(30):
        take(queue)
    for _ in range(50):
        queue.add(entry(100, caller="late"))
    callers = [first_of(queue).caller for _ in range(20)]
    assert 8 <= callers.count("late") <= 12


def test_models_share_processor_time_not_tokens() -> None:
    queue = scheduler(max_entries=120, max_batch_tokens=100, lanes=1)
    for _ in range(60):
        queue.add(entry(100, group="light", weight=1.0))
        queue.add(entry(100, group="heavy", weight=4.0))
    groups = [first_of(queue).group for _ in range(50)]
    assert 36 <= groups.count("light") <= 44


def test_a_group_without_a_free_lane_waits_and_holds_up_no_other() -> None:
    queue = scheduler()
    busy, free = entry(5, group="busy"), entry(5, group="free")
    queue.add(busy)
    queue.add(free)
    batch = queue.next_batch(lambda group: int(group == "free"))
    assert batch is not None
    assert [e for e, _ in batch.parts] == [free]
    assert queue.next_batch(lambda group: int(group == "free")) is None


def test_other_parameters_never_share_a_batch() -> None:
    queue = scheduler()
    queue.add(entry(5, parameters="x"))
    queue.add(entry(5, parameters="y"))
    assert len(take(queue).parts) == 1


def test_a_full_queue_refuses_and_changes_nothing() -> None:
    queue = scheduler(max_entries=2)
    kept = [entry(1), entry(1)]
    for e in kept:
        queue.add(e)
    with pytest.raises(QueueFull):
        queue.add(entry(1))
    take(queue)
    with pytest.raises(QueueFull):  # running ones count until they have their outcome
        queue.add(entry(1))
    queue.remove(kept[0])
    queue.add(entry(1))
    assert len(queue) == 2


def test_what_failed_in_company_runs_again_alone() -> None:
    queue = scheduler()
    first, second = entry(5), entry(5)
    queue.add(first)
    queue.add(second)
    for e, rows in take(queue).parts:
        queue.put_back(e, rows)
    batches = [take(queue), take(queue)]
    assert [len(batch.parts) for batch in batches] == [1, 1]
    assert {id(batch.parts[0][0]) for batch in batches} == {id(first), id(second)}


def test_a_removed_entry_is_never_dispatched() -> None:
    queue = scheduler(max_batch_tokens=10)
    gone = entry(10, 10, 10)
    queue.add(gone)
    take(queue)
    queue.remove(gone)
    assert queue.next_batch(lambda group: 1) is None
    assert len(queue) == 0


@settings(max_examples=200)
@given(
    requests=st.lists(
        st.tuples(
            st.lists(st.integers(1, 300), min_size=1, max_size=20), st.sampled_from("abc"), st.sampled_from("mn")
        ),
        max_size=15,
    ),
    budget=st.integers(1, 600),
    lanes=st.integers(1, 4),
)
def test_every_row_is_dispatched_exactly_once(
    requests: list[tuple[list[int], str, str]], budget: int, lanes: int
) -> None:
    queue = scheduler(max_batch_tokens=budget, lanes=lanes)
    entries = [entry(*costs, caller=caller, group=group) for costs, caller, group in requests]
    for e in entries:
        queue.add(e)
    seen: dict[QueueEntry, list[int]] = {e: [] for e in entries}
    while batch := queue.next_batch(lambda group: 1):
        assert len({e.group for e, _ in batch.parts}) == 1
        assert batch.tokens <= budget or sum(len(rows) for _, rows in batch.parts) == 1
        for e, rows in batch.parts:
            seen[e] += rows
    assert all(sorted(rows) == list(range(len(e.costs))) for e, rows in seen.items())
