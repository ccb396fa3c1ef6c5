"""A year of history, 10 million predictions, drawn: what each of its charts takes.

    python -m benchmarks.history_year [FOLDER]      # an SQLite file of 4 GB is made there, once

The rows and their sums are made by SQL, as the writer would have left them: three sources, three models, every hour.
What is timed is what a route does, its JSON included; the median and the slowest of ten.
"""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from model_api.history import queries
from model_api.history.documents import document
from model_api.history.entries import Entry, Keeping, rows_of
from model_api.history.ids import EPOCH_MS
from model_api.history.periods import Span
from model_api.history.queries import Filter
from model_api.history.store import Store

ROWS = 10_000_000
HOURS = 365 * 24
FIRST_HOUR = int(datetime(2025, 11, 1, tzinfo=UTC).timestamp()) // 3600
TURNS = 10
MEASURES = ("all", "score", "input_chars", "output_chars", "compression", "latency_ms", "rouge1", "bleu")


def fill(store: Store) -> None:
    made = rows_of(
        Entry(0, "s", "m", "1", "d" * 64, "t", ["x" * 80], [{"label": "positive", "score": 0.5}]), Keeping()
    )[0]
    fixed = {
        name: value for name, value in made.items() if name not in ("created_ms", "hour", "source", "model", "score")
    }
    per_hour = ROWS // HOURS

    def rows(connection: Connection, hour: int) -> None:
        names = ", ".join(fixed)
        connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :n)"
                f" INSERT INTO predictions (id, created_ms, hour, source, model, score, {names})"
                " SELECT ((:ms + i * 3000 - :epoch) << 22) + i, :ms + i * 3000, :hour, 'source ' || (i % 3),"
                f" 'model ' || (i / 3 % 3), (i % 100) / 100.0, {', '.join(f':{name}' for name in fixed)} FROM n"
            ),
            {**fixed, "n": per_hour, "ms": hour * 3_600_000, "epoch": EPOCH_MS, "hour": hour},
        )

    for start in range(0, HOURS, 240):

        def ten_days(connection: Connection, start: int = start) -> None:
            for hour in range(start, min(start + 240, HOURS)):
                rows(connection, FIRST_HOUR + hour)

        store.database.write(ten_days)
    bins = [f"bin_{i:02}" for i in range(20)]
    values = f"count(*), sum(score), sum(score * score), min(score), max(score), {', '.join(['count(*) / 20'] * 20)}"
    for table, period in (("prediction_hours", "hour"), ("prediction_days", "hour / 24")):
        column = "hour" if table == "prediction_hours" else "day"
        columns = f"{column}, source, model, n, total, total_of_squares, least, greatest"
        for measure in MEASURES:
            statement = (
                f"INSERT INTO {table} (measure, {columns}, {', '.join(bins)})"
                f" SELECT '{measure}', {period}, source, model, {values} FROM predictions"
                f" GROUP BY {period}, source, model"
            )
            store.database.write(lambda c, statement=statement: c.execute(text(statement)))  # type: ignore[misc]
    store.database.write(
        lambda c: c.execute(
            text(
                "INSERT INTO label_hours (hour, source, model, label, n, total_score) SELECT hour, source, model,"
                " CASE WHEN score < 0.5 THEN 'negative' ELSE 'positive' END, count(*), sum(score) FROM predictions"
                " GROUP BY 1, 2, 3, 4"
            )
        )
    )


def main(folder: Path) -> None:
    store = Store(f"sqlite:///{folder}/history.sqlite")
    if not queries.page(store, Filter(), None, None, 1):
        began = time.perf_counter()
        fill(store)
        print(f"made in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    end = datetime.fromtimestamp((FIRST_HOUR + HOURS) * 3600, UTC)
    year, berlin, one = Span(end - timedelta(days=365), end), ZoneInfo("Europe/Berlin"), Filter("model 1")
    asked: dict[str, Callable[[], Any]] = {
        "counts of a year by month": lambda: queries.counts(store, Filter(), year, "month", UTC),
        "counts of a year by day, in Berlin": lambda: queries.counts(store, Filter(), year, "day", berlin),
        "counts of a month by hour": lambda: queries.counts(
            store, Filter(), Span(end - timedelta(days=31), end), "hour", UTC
        ),
        "a model's scores of a year by day": lambda: queries.series(store, one, year, "day", berlin, "score"),
        "statistics of a year, all measures": lambda: queries.statistics(store, Filter(), year),
        "labels of a year": lambda: queries.labels(store, Filter(), year),
        "shift of a week": lambda: queries.shifts(store, Filter(), Span(end - timedelta(days=7), end)),
        "the latest page of a model": lambda: [document(r) for r in queries.page(store, one, None, None, 50)],
        "ten samples": lambda: [document(r) for r in queries.samples(store, Filter(), 10)],
    }
    print(f"{ROWS:,} predictions, {(folder / 'history.sqlite').stat().st_size / 1e9:.1f} GB")
    for name, ask in asked.items():
        took = []
        for _ in range(TURNS):
            began = time.perf_counter()
            json.dumps(ask(), default=float)
            took.append((time.perf_counter() - began) * 1000)
        print(f"{name:40} {statistics.median(took):7.1f} ms   slowest {max(took):7.1f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
