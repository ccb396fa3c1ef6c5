"""What is asked of the history. Sums answer all but lists of single predictions; those are found by their ids."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Table, case, cast, func, literal, select, union_all

from model_api.errors import UnknownPrediction
from model_api.history.ids import first_id
from model_api.history.measures import MEASURES, deviation, edges, shift
from model_api.history.periods import HOUR, MONTH, Span, offsets, starts
from model_api.history.store import Store
from model_api.history.tables import BINS, DAYS, GROUPS, HOURS, LABELS, PREDICTIONS

P = PREDICTIONS.c
HOURS_A_DAY = 24
MINUTES_A_DAY = 1440
MAX_LABELS = 100
MIN_TO_COMPARE = 50  # predictions on both sides, below which a shift is chance
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Filter:
    """Which predictions; None: all."""

    model: str | None = None
    source: str | None = None

    def of(self, table: Table) -> list[ColumnElement[bool]]:
        wanted = (("model", self.model), ("source", self.source))
        return [table.c[name] == value for name, value in wanted if value is not None]


def page(store: Store, wanted: Filter, span: Span | None, after: int | None, limit: int) -> list[Row]:
    """Newest first, those older than the one with the id `after`."""
    query = select(PREDICTIONS).where(*wanted.of(PREDICTIONS))
    if span is not None:
        since_ms, until_ms = span.ms
        query = query.where(P.id >= first_id(since_ms), P.id < first_id(until_ms))
    if after is not None:
        query = query.where(P.id < after)
    with store.database.reading() as connection:
        return [dict(row) for row in connection.execute(query.order_by(P.id.desc()).limit(limit)).mappings()]


def one(store: Store, prediction_id: int) -> Row:
    """Raises UnknownPrediction."""
    with store.database.reading() as connection:
        found = connection.execute(select(PREDICTIONS).where(P.id == prediction_id)).mappings().first()
    if found is None:
        raise UnknownPrediction(f"no prediction {prediction_id} is in the history")
    return dict(found)


def samples(store: Store, wanted: Filter, n: int) -> list[Row]:
    """So many, by chance, each once; of those whose input was kept. Times of few predictions are drawn as often as
    others."""
    own = [*wanted.of(PREDICTIONS), P.input.is_not(None)]
    found: dict[int, Row] = {}
    with store.database.reading() as connection:
        # One by one: together SQLite would read the whole table for them.
        least, greatest = (
            connection.execute(select(end(P.id)).where(*wanted.of(PREDICTIONS))).scalar()
            for end in (func.min, func.max)
        )
        if least is None or greatest is None:
            return []
        for _ in range(4 * n):
            at = random.randint(least, greatest)  # noqa: S311 - a sample, no secret
            query = select(PREDICTIONS).where(P.id >= at, *own).order_by(P.id).limit(1)
            row = connection.execute(query).mappings().first()
            if row is not None:
                found.setdefault(row["id"], dict(row))
            if len(found) == n:
                break
    return list(found.values())


def counts(store: Store, wanted: Filter, span: Span, by: str, zone: tzinfo) -> list[dict[str, Any]]:
    """How many predictions in each hour, day or month of `zone`, by source; empty ones too."""
    begins = starts(span, by, zone)
    bucket, key_of = _bucket(HOURS.c.hour, span, by, zone)
    query = (
        select(bucket.label("bucket"), HOURS.c.source, func.sum(HOURS.c.n).label("n"))
        .where(HOURS.c.measure == "all", *_within(HOURS.c.hour, span.hours), *wanted.of(HOURS))
        .group_by("bucket", HOURS.c.source)
    )
    found: dict[Any, dict[str, int]] = {}
    with store.database.reading() as connection:
        for row in connection.execute(query):
            sources = found.setdefault(key_of(int(row.bucket)), {})
            sources[row.source] = sources.get(row.source, 0) + int(row.n)
    shown = []
    for start in begins:
        sources = found.get(_key(start, by), {})
        shown.append({"start": start.isoformat(), "n": sum(sources.values()), "sources": sources})
    return shown


def series(store: Store, wanted: Filter, span: Span, by: str, zone: tzinfo, measure: str) -> list[dict[str, Any]]:
    """The mean of a measure in each hour, day or month of `zone` that has any."""
    bucket, key_of = _bucket(HOURS.c.hour, span, by, zone)
    query = (
        select(bucket.label("bucket"), func.sum(HOURS.c.n).label("n"), func.sum(HOURS.c.total).label("total"))
        .where(HOURS.c.measure == measure, *_within(HOURS.c.hour, span.hours), *wanted.of(HOURS))
        .group_by("bucket")
    )
    found: dict[Any, tuple[int, float]] = {}
    with store.database.reading() as connection:
        for row in connection.execute(query):
            n, total = found.get(key_of(int(row.bucket)), (0, 0.0))
            found[key_of(int(row.bucket))] = (n + int(row.n), total + float(row.total))
    shown = []
    for start in starts(span, by, zone):
        n, total = found.get(_key(start, by), (0, 0.0))
        if n > 0:
            shown.append({"start": start.isoformat(), "n": n, "mean": total / n})
    return shown


def statistics(store: Store, wanted: Filter, span: Span) -> dict[str, Any]:
    """Of each measure; by measures.MEASURES, but those of which there is nothing."""
    return {
        name: {
            "n": row["n"],
            "mean": row["total"] / row["n"],
            "std": deviation(row["n"], row["total"], row["total_of_squares"]),
            "min": row["least"],
            "max": row["greatest"],
            "histogram": {"edges": edges(name), "counts": row["bins"]},
        }
        for name, row in _summed(store, wanted, span).items()
        if name != "all"
    }


def labels(store: Store, wanted: Filter, span: Span) -> list[dict[str, Any]]:
    """How often each label, and its mean score; the most frequent first."""
    n, total = func.sum(LABELS.c.n).label("n"), func.sum(LABELS.c.total_score).label("total")
    query = (
        select(LABELS.c.label, n, total)
        .where(*_within(LABELS.c.hour, span.hours), *wanted.of(LABELS))
        .group_by(LABELS.c.label)
        .order_by(n.desc(), LABELS.c.label)
        .limit(MAX_LABELS)
    )
    with store.database.reading() as connection:
        rows = connection.execute(query).all()
    return [{"label": row.label, "n": int(row.n), "mean_score": float(row.total) / int(row.n)} for row in rows]


def groups(store: Store, kind: str, model: str | None, span: Span, limit: int) -> list[dict[str, Any]]:
    """Labels by user or topic, those with most predictions first. By days of UTC."""
    first, end = span.hours
    days = (first // HOURS_A_DAY, -(-end // HOURS_A_DAY))
    own = [GROUPS.c.kind == kind, *_within(GROUPS.c.day, days), *Filter(model).of(GROUPS)]
    n = func.sum(GROUPS.c.n)
    most = select(GROUPS.c.name).where(*own).group_by(GROUPS.c.name).order_by(n.desc(), GROUPS.c.name).limit(limit)
    with store.database.reading() as connection:
        names = list(connection.execute(most).scalars())
        query = (
            select(GROUPS.c.name, GROUPS.c.label, n.label("n"), func.sum(GROUPS.c.total_score).label("total"))
            .where(*own, GROUPS.c.name.in_(names))
            .group_by(GROUPS.c.name, GROUPS.c.label)
            .order_by(n.desc(), GROUPS.c.label)
        )
        rows = connection.execute(query).all() if names else []
    found: dict[str, dict[str, Any]] = {name: {"name": name, "n": 0, "labels": []} for name in names}
    for row in rows:
        one_label = {"label": row.label, "n": int(row.n), "mean_score": float(row.total) / int(row.n)}
        found[row.name]["labels"].append(one_label)
        found[row.name]["n"] += int(row.n)
    return list(found.values())


def shifts(store: Store, wanted: Filter, span: Span) -> dict[str, Any]:
    """How far labels and scores have moved against the span before; None where there is too little to tell."""
    before = span.before()
    found: dict[str, Any] = {"since": before.since.isoformat(), "until": before.until.isoformat()}
    now_labels, old_labels = ({x["label"]: x["n"] for x in labels(store, wanted, s)} for s in (span, before))
    names = sorted({*now_labels, *old_labels})
    found["labels"] = _shift([now_labels.get(x, 0) for x in names], [old_labels.get(x, 0) for x in names])
    now, old = (_summed(store, wanted, s).get("score") for s in (span, before))
    found["scores"] = found["mean_score"] = None
    if now is not None and old is not None:
        found["scores"] = _shift(now["bins"], old["bins"])
        found["mean_score"] = now["total"] / now["n"] - old["total"] / old["n"]
    return found


def models(store: Store, span: Span) -> list[str]:
    """That predicted anything in that time."""
    first, end = span.hours
    days = (first // HOURS_A_DAY, -(-end // HOURS_A_DAY))
    query = (
        select(DAYS.c.model).where(DAYS.c.measure == "all", *_within(DAYS.c.day, days), DAYS.c.model != "").distinct()
    )
    with store.database.reading() as connection:
        return sorted(connection.execute(query).scalars())


def _shift(now: Sequence[int], before: Sequence[int]) -> float | None:
    return shift(now, before) if min(sum(now), sum(before)) >= MIN_TO_COMPARE else None


def _within(column: ColumnElement[int], bounds: tuple[int, int]) -> list[ColumnElement[bool]]:
    return [column >= bounds[0], column < bounds[1]]


def _bucket(hour: ColumnElement[int], span: Span, by: str, zone: tzinfo) -> tuple[ColumnElement[int], Any]:
    """An expression that tells periods apart, and what makes `_key` of its value. Months are counted by their days."""
    if by == HOUR:
        return hour, lambda value: value
    *changes, (_, last) = offsets(span, zone)
    after = [at for at, _ in offsets(span, zone)[1:]]
    ahead = (
        case(*((hour < end, minutes) for (_, minutes), end in zip(changes, after, strict=True)), else_=last)
        if changes
        else literal(last)
    )
    day = cast(func.floor((hour * 60 + ahead) / float(MINUTES_A_DAY)), Integer)

    def key_of(value: int) -> date:
        found = date(1970, 1, 1) + timedelta(days=value)
        return found.replace(day=1) if by == MONTH else found

    return day, key_of


def _key(start: datetime, by: str) -> Any:
    return int(start.timestamp()) // 3600 if by == HOUR else start.date()


def _summed(store: Store, wanted: Filter, span: Span) -> dict[str, dict[str, Any]]:
    """All measures over a span: whole days of UTC from the sums of days, what is left at both ends from those of
    hours."""
    first, end = span.hours
    first_day, end_day = -(-first // HOURS_A_DAY), end // HOURS_A_DAY
    parts: list[Select[Any]]
    if first_day < end_day:
        parts = [
            _sums_of(DAYS, DAYS.c.day, (first_day, end_day), wanted),
            _sums_of(HOURS, HOURS.c.hour, (first, first_day * HOURS_A_DAY), wanted),
            _sums_of(HOURS, HOURS.c.hour, (end_day * HOURS_A_DAY, end), wanted),
        ]
    else:
        parts = [_sums_of(HOURS, HOURS.c.hour, (first, end), wanted)]
    found: dict[str, dict[str, Any]] = {}
    with store.database.reading() as connection:
        rows = connection.execute(union_all(*parts)).mappings().all()
    for row in rows:
        so_far = found.setdefault(
            row["measure"],
            {"n": 0, "total": 0.0, "total_of_squares": 0.0, "least": None, "greatest": None, "bins": [0] * len(BINS)},
        )
        so_far["n"] += int(row["n"])
        so_far["total"] += float(row["total"])
        so_far["total_of_squares"] += float(row["total_of_squares"])
        so_far["bins"] = [a + int(row[name]) for a, name in zip(so_far["bins"], BINS, strict=True)]
        for name, choose in (("least", min), ("greatest", max)):
            values = [value for value in (so_far[name], row[name]) if value is not None]
            so_far[name] = choose(values) if values else None
    return {name: found[name] for name in MEASURES if name in found and found[name]["n"] > 0}


def _sums_of(table: Table, period: ColumnElement[int], bounds: tuple[int, int], wanted: Filter) -> Select[Any]:
    c = table.c
    added = [func.sum(c[name]).label(name) for name in ("n", "total", "total_of_squares", *BINS)]
    ends = [func.min(c.least).label("least"), func.max(c.greatest).label("greatest")]
    measures = [name for name in MEASURES if name != "all"]
    return (
        select(c.measure, *added, *ends)
        .where(c.measure.in_(measures), *_within(period, bounds), *wanted.of(table))
        .group_by(c.measure)
    )
