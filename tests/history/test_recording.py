"""Noting never waits and never fails, whatever the database does; and what is lost is counted."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import DatabaseDown
from model_api.history import recording
from model_api.history.entries import Entry, Keeping, Row, rows_of
from model_api.history.recording import MAX_ROWS, Recorder
from tests.rigs.polling import wait_until


class Counts:
    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def count_history(self, event: str, n: int) -> None:
        self.events[event] += n

    def show_shifts(self, shifts: Mapping[tuple[str, str], float]) -> None:
        raise AssertionError("nobody looks for shifts here")


class Writes:
    """A database that `fail` and `gate` govern."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.sizes: list[int] = []
        self.fail: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.tried = threading.Event()

    def __call__(self, rows: Sequence[Row]) -> None:
        self.tried.set()
        self.gate.wait()
        if self.fail is not None:
            raise self.fail
        self.rows += rows
        self.sizes.append(len(rows))


@contextmanager
def recorder(sample_rate: float = 1.0) -> Iterator[tuple[Recorder, Writes, Counts]]:
    writes, counts = Writes(), Counts()
    made = Recorder(writes, Keeping(), sample_rate, counts)
    made.start()
    try:
        yield made, writes, counts
    finally:
        writes.gate.set()
        made.stop()


def entry(n: int = 1, source: str = "web", **more: Any) -> Entry:
    return Entry(1_800_000_000_000, source, "m", "1", "d", "t", ["a"] * n, [{"label": "x"}] * n, **more)


def test_what_is_noted_is_written_within_a_moment() -> None:
    with recorder() as (made, writes, counts):
        made.note(entry(3))
        wait_until(lambda: len(writes.rows) == 3)
        wait_until(lambda: counts.events == {"kept": 3})


def test_many_are_written_together() -> None:
    with recorder() as (made, writes, _):
        writes.gate.clear()
        made.note(entry())
        writes.tried.wait(10)
        for _ in range(1200):
            made.note(entry())
        writes.gate.set()
        wait_until(lambda: len(writes.rows) == 1201)
        assert writes.sizes == [1, 500, 500, 200]


def test_one_large_request_is_written_whole() -> None:
    with recorder() as (made, writes, _):
        made.note(entry(1500))
        wait_until(lambda: len(writes.rows) == 1500)


def test_a_database_that_hangs_holds_nobody_and_what_does_not_fit_is_counted() -> None:
    with recorder() as (made, writes, counts):
        writes.gate.clear()
        made.note(entry())
        writes.tried.wait(10)
        for _ in range(MAX_ROWS // 100 + 5):
            made.note(entry(100))  # would wait for ever here
        lost = counts.events["full"]
        assert lost == 600
        made.note(entry(1, size_bytes=2**40))
        assert counts.events["full"] == lost + 1
        writes.gate.set()
        wait_until(lambda: counts.events["kept"] == MAX_ROWS - 100 + 1)
        made.note(entry())
        wait_until(lambda: counts.events["kept"] == MAX_ROWS - 100 + 2)


def test_what_a_database_refused_is_written_once_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_RETRY_S", (0.01,))
    with recorder() as (made, writes, counts):
        writes.fail = DatabaseDown("is full")
        made.note(entry(2))
        writes.tried.wait(10)
        made.note(entry(3))
        writes.fail = None
        wait_until(lambda: len(writes.rows) == 5)
        wait_until(lambda: counts.events == {"kept": 5})


def test_one_odd_prediction_ends_nothing() -> None:
    with recorder() as (made, writes, counts):
        made.note(entry(2, scores=[{}]))  # too few
        made.note(entry(1, user="u"))
        wait_until(lambda: counts.events["refused"] + counts.events["kept"] == 3)
        made.note(entry(4))
        wait_until(lambda: len(writes.rows) >= 4)


def test_a_stop_writes_what_waits() -> None:
    with recorder() as (made, writes, _):
        made.note(entry(7))
    assert len(writes.rows) == 7


def test_a_stop_does_not_wait_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_GIVE_UP_S", 0.0)
    with recorder() as (made, writes, counts):
        writes.fail = DatabaseDown("is away")
        made.note(entry(7))
    assert counts.events == {"refused": 7}


def test_a_sample_is_a_share_of_the_requests() -> None:
    with recorder(0.25) as (made, writes, _):
        made._random = random.Random(1)
        for _ in range(1000):
            made.note(entry())
    assert 200 < len(writes.rows) < 300


def test_who_makes_up_sources_makes_no_more_than_so_many() -> None:
    with recorder() as (made, writes, _):
        for number in range(300):
            made.note(entry(source=f"s{number}"))
    assert len({row["source"] for row in writes.rows}) == recording.MAX_SOURCES + 1


@pytest.mark.parametrize(
    ("kind", "text", "kept"),
    [
        ("email", "ask jo.doe+x@mail.example.org now", "ask [email] now"),
        ("url", "see https://example.org/a?b=c, please", "see [url] please"),
        ("phone", "call +49 (30) 123-4567 or 5", "call [phone] or 5"),
        ("card", "4111 1111 1111 1111", "[card]"),
        ("iban", "to DE89 3704 0044 0532 0130 00 today", "to [iban] today"),
        ("ip", "from 192.0.2.17 and 2001:db8:0:1:2:3:4:5", "from [ip] and [ip]"),
    ],
)
def test_what_is_to_be_redacted_is(kind: str, text: str, kept: str) -> None:
    keeping = Keeping(redact=(kind,))
    assert keeping.redacted(text) == kept
    assert keeping.redacted({"target": text, "texts": [text, 1, None]}) == {"target": kept, "texts": [kept, 1, None]}
    assert Keeping().redacted(text) == text


def test_all_that_is_kept_is_redacted() -> None:
    secret = "jo@example.org"
    given = Entry(1, "s", "m", "1", "d", "t", [secret], [{"text": secret}], references=[secret])
    (row,) = rows_of(given, Keeping(redact=("email", "card")))
    assert secret not in str(row)
    assert orjson.loads(row["input"]) == orjson.loads(row["reference"]) == "[email]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(given=JSON, predicted=JSON, reference=JSON)
def test_any_json_makes_a_row_that_every_database_takes(given: Any, predicted: Any, reference: Any) -> None:
    noted = Entry(1, "s", "m", "1", "d", "t", [given], [predicted], references=[reference])
    (row,) = rows_of(noted, Keeping(redact=("email", "phone", "card", "iban", "ip", "url")))
    for value in row.values():
        assert value is None or isinstance(value, int | float | str)
        if isinstance(value, str):
            assert "\0" not in value
            value.encode()
        if isinstance(value, float):
            assert abs(value) <= 1e12


def test_redacting_a_long_text_takes_no_time_to_speak_of() -> None:
    """Each is what one of the patterns looks at longest."""
    keeping = Keeping(redact=("email", "phone", "card", "iban", "ip", "url"))
    begin = [("a" * 64 + "@") * 1500, "1" * 100_000, "1-" * 50_000, "a." * 50_000, "0:" * 50_000, "AA11" * 25_000]
    take: list[Callable[[], Any]] = [lambda text=text: keeping.redacted(text) for text in begin]  # type: ignore[misc]
    done = threading.Event()

    def all_of_them() -> None:
        for one in take:
            one()
        done.set()

    threading.Thread(target=all_of_them, daemon=True).start()
    assert done.wait(30)
