"""What is kept is what was given, and the sums are those of what is kept, in every database."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from sqlalchemy import select

from model_api.errors import UnknownPrediction
from model_api.history import ids
from model_api.history.entries import HOUR_MS, MAX_CELL_BYTES, PAIR_WAITING, Entry, Keeping, rows_of
from model_api.history.measures import MEASURES, N_BINS, bin_of
from model_api.history.store import Store
from model_api.history.sums import measured
from model_api.history.tables import GROUPS, HOURS, LABELS, PREDICTIONS
from tests.rigs.databases import database_url as database_url
from tests.rigs.databases import where as where

NOW_MS = 1_800_000_000_000
ALL = Keeping()


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = Store(database_url)
    yield opened
    opened.close()


def entry(**changes: Any) -> Entry:
    made = Entry(
        created_ms=NOW_MS,
        source="web",
        model="sentiment",
        version="3",
        digest="d" * 64,
        task="text-classification",
        inputs=["good"],
        predictions=[{"label": "positive", "score": 0.875}],
        latency_ms=3.5,
    )
    return replace(made, **changes)


def all_rows(store: Store) -> list[dict[str, Any]]:
    with store.database.reading() as connection:
        return [dict(row) for row in connection.execute(select(PREDICTIONS).order_by(PREDICTIONS.c.id)).mappings()]


def sums(store: Store) -> dict[tuple[str, int, str, str], dict[str, Any]]:
    with store.database.reading() as connection:
        found = [dict(row) for row in connection.execute(select(HOURS)).mappings()]
    return {(row["measure"], row["hour"], row["source"], row["model"]): row for row in found}


ODD = [
    "a\0NUL",
    "🦜 emoji, ünïcode, \u202eright to left",
    "'; DROP TABLE predictions; --",
    "%s %(x)s :name ? \\ \\' \"",
    "=cmd|' /C calc'!A0",
    "x" * (MAX_CELL_BYTES - 2),
    " blanks around ",
    "\u2028\u2029\r\n\t",
]


def test_odd_texts_come_back_as_they_were(store: Store) -> None:
    labels = [text[:10] for text in ODD]
    given = entry(
        inputs=ODD, predictions=[{"label": label, "score": 0.5} for label in labels], references=labels, user=None
    )
    store.add(rows_of(given, ALL))
    rows = all_rows(store)
    assert [orjson.loads(row["input"]) for row in rows] == ODD
    assert [orjson.loads(row["prediction"])["label"] for row in rows] == labels
    assert all(row["reference"] is not None and row["hour"] == NOW_MS // HOUR_MS for row in rows)


def test_names_that_look_alike_are_told_apart(store: Store) -> None:
    for name in ("a", "A", "á", "ａ", "a b"):
        store.add(rows_of(entry(source=name, predictions=[{"label": name, "score": 1.0}], topic=name), ALL))
    assert len({key[2] for key in sums(store)}) == 5
    with store.database.reading() as connection:
        assert len(connection.execute(select(LABELS)).all()) == 5
        assert len(connection.execute(select(GROUPS)).all()) == 5


def test_a_long_cell_is_measured_and_not_kept(store: Store) -> None:
    store.add(rows_of(entry(inputs=["x" * 2**20]), ALL))
    (row,) = all_rows(store)
    assert row["input"] is None
    assert row["input_chars"] == 2**20


def test_vectors_and_fragments_are_kept(store: Store) -> None:
    vector = np.array([0.5, -1.25], np.float32)
    store.add(rows_of(entry(inputs=["a"], predictions=[vector], task="embedding"), ALL))
    fragment = orjson.Fragment(b'{"label":"negative","score":0.25}')
    store.add(rows_of(entry(inputs=["b"], predictions=[fragment], cached=True), ALL))
    first, second = all_rows(store)
    assert orjson.loads(first["prediction"]) == [0.5, -1.25]
    assert (first["label"], first["score"], first["output_chars"]) == (None, None, None)
    assert (second["label"], second["score"], second["cached"]) == ("negative", 0.25, 1)


def random_entry(made: random.Random) -> Entry:
    n = made.randint(1, 4)
    kind = made.choice(["label", "text", "sims", "vector"])
    made_up: dict[str, list[Any]] = {
        "label": [{"label": made.choice("abc"), "score": made.random()} for _ in range(n)],
        "text": [{"text": "w" * made.randint(0, 300)} for _ in range(n)],
        "sims": [{"sims": [made.uniform(-1, 1), made.uniform(-1, 1)]} for _ in range(n)],
        "vector": [[1.0, 2.0]] * n,
    }
    return entry(
        created_ms=NOW_MS + made.randint(0, 3 * HOUR_MS),
        source=made.choice(["web", "batch"]),
        model=made.choice(["one", "two"]),
        inputs=["w" * made.randint(1, 500) for _ in range(n)],
        predictions=made_up[kind],
        references=[made.choice("abc") for _ in range(n)] if made.random() < 0.5 else None,
        latency_ms=made.choice([None, made.uniform(0, 5000)]),
        user=made.choice([None, "u1", "u2"]),
    )


def expect_sums_of_rows(store: Store) -> None:
    """Counted anew from the rows, by other means than those that added them up."""
    found = sums(store)
    rows = all_rows(store)
    for measure in MEASURES:
        by_key: dict[tuple[str, int, str, str], list[float]] = {}
        for row in rows:
            value = measured(row).get(measure)
            if value is not None:
                by_key.setdefault((measure, row["hour"], row["source"], row["model"]), []).append(value)
        for key, values in by_key.items():
            kept = found[key]
            assert kept["n"] == len(values)
            assert kept["total"] == pytest.approx(sum(values))
            assert kept["total_of_squares"] == pytest.approx(sum(value**2 for value in values))
            bins = [kept[f"bin_{i:02}"] for i in range(N_BINS)]
            assert bins == [sum(bin_of(measure, value) == i for value in values) for i in range(N_BINS)]
            assert kept["least"] <= min(values)
            assert kept["greatest"] >= max(values)
        assert sum(one["n"] for key, one in found.items() if key[0] == measure) == sum(map(len, by_key.values()))


def test_the_sums_are_those_of_the_rows(store: Store) -> None:
    made = random.Random(5)
    for _ in range(10):
        store.add([row for _ in range(10) for row in rows_of(random_entry(made), ALL)])
    expect_sums_of_rows(store)
    for row in all_rows(store)[::7]:
        store.refer(row["id"], made.choice("abc"), ALL)
        store.refer(row["id"], made.choice("abc"), ALL)
    store.score_pairs(
        {
            one: {"rouge1": 0.5, "rouge2": 0.25, "rougeL": 0.5, "rougeLsum": 0.5, "bleu": 0.1}
            for one, _, _ in store.waiting_pairs(1000)
        }
    )
    assert store.waiting_pairs(1000) == []
    expect_sums_of_rows(store)


def test_two_instances_write_at_once(database_url: str, store: Store) -> None:
    second = Store(database_url)
    made = random.Random(6)
    entries = [random_entry(made) for _ in range(60)]

    def write(into: Store, part: list[Entry]) -> None:
        for one in part:
            into.add(rows_of(one, ALL))

    threads = [threading.Thread(target=write, args=(into, entries[i::2])) for i, into in enumerate((store, second))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    second.close()
    assert len(all_rows(store)) == sum(len(one.predictions) for one in entries)
    expect_sums_of_rows(store)


def test_ids_that_two_processes_drew_are_drawn_again(
    database_url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    chances = iter([5, 5, 6])
    monkeypatch.setattr("secrets.randbelow", lambda bound: next(chances))
    first, second = Store(database_url), Store(database_url)
    (one,), (other,) = first.add(rows_of(entry(), ALL)), second.add(rows_of(entry(), ALL))
    first.close()
    second.close()
    assert one != other
    assert len(all_rows(store)) == 2
    expect_sums_of_rows(store)


def test_ids_are_in_the_order_of_time() -> None:
    drawn = ids.Ids()
    found = [drawn.draw(ms) for ms in [NOW_MS] * 10_000 + [NOW_MS - 5, NOW_MS + 1, NOW_MS + 100]]
    assert found == sorted(set(found))
    assert ids.first_id(NOW_MS) <= found[0] < ids.first_id(NOW_MS + 1)
    assert found[-1] < 2**63


def test_a_reference_to_nothing_is_told(store: Store) -> None:
    with pytest.raises(UnknownPrediction):
        store.refer(5, "positive", ALL)


def test_a_pair_is_scored_once_whoever_does_it(store: Store) -> None:
    store.add(rows_of(entry(inputs=["long"], predictions=[{"text": "short"}], references=["brief"]), ALL))
    ((waiting, reference, prediction),) = store.waiting_pairs(10)
    assert (orjson.loads(reference), orjson.loads(prediction)) == ("brief", {"text": "short"})
    scores = dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"), 0.5)
    assert store.score_pairs({waiting: scores}) == 1
    assert store.score_pairs({waiting: scores}) == 0
    assert sums(store)["bleu", NOW_MS // HOUR_MS, "web", "sentiment"]["n"] == 1


def test_old_predictions_go_and_their_sums_stay(store: Store) -> None:
    for day in range(4):
        moment = NOW_MS + day * 24 * HOUR_MS
        store.add(
            rows_of(entry(created_ms=moment, user=f"u{day}", inputs=["a"] * 3, predictions=[{"label": "x"}] * 3), ALL)
        )
    limit_ms = NOW_MS + 2 * 24 * HOUR_MS
    assert store.drop_before(limit_ms, 4) == 4
    assert store.drop_before(limit_ms, 4) == 2
    assert store.drop_before(limit_ms, 4) == 0
    assert {row["user_name"] for row in all_rows(store)} == {"u2", "u3"}
    with store.database.reading() as connection:
        assert {row.name for row in connection.execute(select(GROUPS))} == {"u2", "u3"}
    assert sum(one["n"] for key, one in sums(store).items() if key[0] == "all") == 12


def test_hash_keeps_no_text(store: Store) -> None:
    keeping = Keeping(text=False)
    store.add(rows_of(entry(inputs=["their secret"], references=["positive"]), keeping))
    store.add(
        rows_of(entry(inputs=["their secret"], predictions=[{"text": "a secret"}], references=["secret"]), keeping)
    )
    assert "secret" not in str(all_rows(store))
    first, second = all_rows(store)
    assert first["correct"] == 1
    assert first["input_sha256"] == second["input_sha256"]
    assert second["pair_state"] != PAIR_WAITING
