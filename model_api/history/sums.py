"""From rows to what they add to the hourly sums. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from model_api.history.measures import MEASURES, N_BINS, ROUGE_AND_BLEU, bin_of

Sum = dict[str, Any]
HOURS_A_DAY = 24
_KEYS = ("measure", "hour", "source", "model")


def measured(row: Mapping[str, Any]) -> dict[str, float]:
    """What one prediction measures, by MEASURES."""
    found: dict[str, float | None] = {
        "all": 0.0,
        "score": row["score"],
        "correct": row["correct"],
        "input_chars": row["input_chars"],
        "output_chars": row["output_chars"],
        "latency_ms": row["latency_ms"],
        **{name: row[column] for name, column in ROUGE_AND_BLEU.items()},
    }
    if row["input_chars"] and row["output_chars"] is not None:
        found["compression"] = row["output_chars"] / row["input_chars"]
    return {name: float(found[name]) for name in MEASURES if found.get(name) is not None}  # type: ignore[arg-type]


def hour_sums(rows: Iterable[Mapping[str, Any]], only: Iterable[str] = MEASURES, times: int = 1) -> list[Sum]:
    """Rows of `prediction_hours`. `times` -1 takes away what was added before; the least and the greatest stay."""
    sums: dict[tuple[str, int, str, str], Sum] = {}
    wanted = frozenset(only)
    for row in rows:
        for measure, value in measured(row).items():
            if measure not in wanted:
                continue
            key = (measure, row["hour"], row["source"], row["model"])
            found = sums.get(key)
            if found is None:
                names = ("measure", "hour", "source", "model")
                found = sums[key] = {
                    **dict(zip(names, key, strict=True)),
                    "n": 0,
                    "total": 0.0,
                    "total_of_squares": 0.0,
                    "least": None,
                    "greatest": None,
                    **{f"bin_{i:02}": 0 for i in range(N_BINS)},
                }
            found["n"] += times
            found["total"] += times * value
            found["total_of_squares"] += times * value * value
            found[f"bin_{bin_of(measure, value):02}"] += times
            if times > 0:
                found["least"] = value if found["least"] is None else min(found["least"], value)
                found["greatest"] = value if found["greatest"] is None else max(found["greatest"], value)
    return list(sums.values())


def day_sums(hours: Iterable[Sum]) -> list[Sum]:
    """Rows of `prediction_days`, of those of hours."""
    days: dict[tuple[Any, ...], Sum] = {}
    for hour in hours:
        day = hour["hour"] // HOURS_A_DAY
        key = (hour["measure"], day, hour["source"], hour["model"])
        one = {"measure": hour["measure"], "day": day, **{name: hour[name] for name in hour if name not in _KEYS}}
        one |= {"source": hour["source"], "model": hour["model"]}
        found = days.get(key)
        if found is None:
            days[key] = one
            continue
        for name in one:
            if name in ("least", "greatest"):
                values = [value for value in (one[name], found[name]) if value is not None]
                found[name] = (min if name == "least" else max)(values, default=None)
            elif name not in ("measure", "day", "source", "model"):
                found[name] += one[name]
    return list(days.values())


def label_sums(rows: Iterable[Mapping[str, Any]]) -> list[Sum]:
    """Rows of `label_hours`."""
    return _summed(
        (
            {"hour": row["hour"], "source": row["source"], "model": row["model"], "label": row["label"]},
            row["score"],
        )
        for row in rows
        if row["label"] is not None
    )


def group_sums(rows: Iterable[Mapping[str, Any]]) -> list[Sum]:
    """Rows of `label_groups`: labels by user and by topic."""
    return _summed(
        (
            {
                "kind": kind,
                "day": row["hour"] // HOURS_A_DAY,
                "model": row["model"],
                "name": row[column],
                "label": row["label"],
            },
            row["score"],
        )
        for row in rows
        for kind, column in (("user", "user_name"), ("topic", "topic"))
        if row["label"] is not None and row[column]
    )


def _summed(keyed: Iterable[tuple[dict[str, Any], float | None]]) -> list[Sum]:
    sums: dict[tuple[Any, ...], Sum] = {}
    for key, score in keyed:
        found = sums.setdefault(tuple(key.values()), {**key, "n": 0, "total_score": 0.0})
        found["n"] += 1
        found["total_score"] += score or 0.0
    return list(sums.values())
