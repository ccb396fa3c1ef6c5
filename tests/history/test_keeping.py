"""What is looked after: pairs get their scores, shifts are shown, and what is old goes."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from model_api.errors import QueueFull
from model_api.history import keeping
from model_api.history.entries import Entry, Keeping, rows_of
from model_api.history.keeping import Keeper
from model_api.history.store import Store
from tests.rigs.polling import wait_until

DAY_MS = 86_400_000
SCORES = dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"), 0.5)


class Counts:
    def __init__(self) -> None:
        self.shifts: Mapping[tuple[str, str], float] | None = None

    def count_history(self, event: str, n: int) -> None: ...

    def show_shifts(self, shifts: Mapping[tuple[str, str], float]) -> None:
        self.shifts = shifts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path}/history.sqlite")
    yield opened
    opened.close()


def add(store: Store, age_days: float, n: int = 1, label: str | None = None, score: float = 0.5) -> None:
    now_ms = int(time.time() * 1000 - age_days * DAY_MS)
    predicted = {"text": "a"} if label is None else {"label": label, "score": score}
    entry = Entry(now_ms, "s", "m", "1", "d", "t", ["in"] * n, [predicted] * n, references=["b"] * n)
    store.add(rows_of(entry, Keeping()))


def test_pairs_are_scored_by_and_by(store: Store) -> None:
    asked: list[int] = []

    def score(pairs: Sequence[tuple[str, str]]) -> list[dict[str, float] | None]:
        asked.append(len(pairs))
        assert set(pairs) == {("b", "a")}
        return [SCORES] * (len(pairs) - 1) + [None]

    add(store, 0, keeping.PAIRS_AT_ONCE + 3)
    keeper = Keeper(store, 90, score, Counts())
    assert keeper.score_pairs()
    assert not keeper.score_pairs()
    assert asked == [keeping.PAIRS_AT_ONCE, 3]
    assert store.waiting_pairs(100) == []


def test_a_full_queue_leaves_them_waiting(store: Store) -> None:
    def score(pairs: Sequence[tuple[str, str]]) -> list[dict[str, float] | None]:
        raise QueueFull("full")

    add(store, 0, 2)
    with pytest.raises(QueueFull):
        Keeper(store, 90, score, Counts()).score_pairs()
    assert len(store.waiting_pairs(100)) == 2


def test_shifts_of_each_model_are_shown(store: Store) -> None:
    counts = Counts()
    for day in range(1, 7):
        add(store, day, 20, "a", 0.9)
        add(store, day + 7, 20, "b", 0.1)
    Keeper(store, 90, None, counts).show_shifts()
    assert counts.shifts is not None
    assert set(counts.shifts) == {("m", "labels"), ("m", "scores")}
    assert min(counts.shifts.values()) > 1


def test_what_is_old_goes_on_its_own_thread(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_S", 0.01)
    monkeypatch.setattr(keeping, "ROWS_AT_ONCE", 3)
    add(store, 100, 7)
    add(store, 1, 2)
    keeper = Keeper(store, 90, None, Counts())
    keeper.start()
    try:
        wait_until(lambda: store.count() == 2)
    finally:
        keeper.stop()
