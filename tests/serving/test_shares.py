"""Nobody takes all, whoever comes finds room, and nothing is lost in the books."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.serving.shares import Shares


@pytest.mark.parametrize("capacity", [1, 2, 4, 128])
def test_who_is_alone_may_hold_three_quarters_and_the_next_still_finds_room(capacity: int) -> None:
    shares = Shares(capacity)
    taken = 0
    while shares.take("greedy"):
        taken += 1
    assert taken == max(1, capacity * 3 // 4)
    assert shares.take("modest") == (capacity > 1)
    assert (shares.held("greedy"), shares.total()) == (taken, taken + (capacity > 1))


def test_what_is_given_back_can_be_taken_again() -> None:
    shares = Shares(100)
    assert shares.take("a", 60)
    assert not shares.take("a", 60)
    shares.give_back("a", 60)
    assert shares.take("a", 60)
    assert not shares.take("b", 41)
    assert shares.take("b", 40)  # who holds nothing gets whatever is left


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 30)), max_size=60), st.integers(1, 100))
def test_the_books_balance(wishes: list[tuple[str, int]], capacity: int) -> None:
    shares = Shares(capacity)
    granted = [wish for wish in wishes if shares.take(*wish)]
    assert shares.total() == sum(amount for _, amount in granted) <= capacity
    for wish in granted:
        shares.give_back(*wish)
    assert shares.total() == 0
    assert shares.take("a", capacity)
