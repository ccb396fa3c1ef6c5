"""Comparing two versions' answers: agreement, shift, time. Pure, but for the clock around a question."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from model_api.history.entries import label_of, number_of, score_of, text_of
from model_api.jobs.files.predictors import Hopeless

ALIKE = 0.99  # the cosine from which on two vectors agree
SAME_NUMBER = 0.05  # the share of its size within which two numbers agree


@dataclass(frozen=True)
class Answered:
    """`prediction` is None where the input was refused, for `why`."""

    prediction: Any
    ms: float
    why: str | None = None


@dataclass(frozen=True)
class Pair:
    before: Answered
    after: Answered
    reference: Any = None


def timed(ask: Callable[[], Any]) -> Answered:
    """Raises OSError where the server can't be asked any more."""
    began = time.perf_counter()
    try:
        return Answered(ask(), (time.perf_counter() - began) * 1000)
    except Hopeless as error:
        return Answered(None, (time.perf_counter() - began) * 1000, str(error))


def compared(before: Any, after: Any) -> tuple[bool, float | None]:
    """Whether two predictions agree, and how far the score moved: of a label that of the old label's model to the new;
    of vectors the cosine less 1; None where there is none."""
    if isinstance(before, list) and isinstance(after, list):
        cosine = _cosine(before, after)
        return cosine >= ALIKE, cosine - 1
    old, new = number_of(score_of(before)), number_of(score_of(after))
    moved = None if old is None or new is None else new - old
    if label_of(before) is not None or label_of(after) is not None:
        return label_of(before) == label_of(after), moved
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in ("sims", "scores"):
            if before.get(name) and after.get(name):
                return _best(before[name]) == _best(after[name]), moved
    if text_of(before) is not None:
        return text_of(before) == text_of(after), None
    if old is not None and new is not None:
        return abs(new - old) <= SAME_NUMBER * max(abs(old), abs(new)), moved
    return before == after, None


def report(before: str, after: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """All that `table` shows, as JSON."""
    both = [pair for pair in pairs if pair.before.why is None and pair.after.why is None]
    found = [compared(pair.before.prediction, pair.after.prediction) for pair in both]
    moved = [shift for _, shift in found if shift is not None]
    told = [pair for pair in both if isinstance(pair.reference, str) and label_of(pair.before.prediction) is not None]
    changes: dict[tuple[str, str], int] = {}
    for pair in both:
        labels = label_of(pair.before.prediction), label_of(pair.after.prediction)
        if labels[0] is not None and labels[1] is not None and labels[0] != labels[1]:
            changes[labels[0], labels[1]] = changes.get((labels[0], labels[1]), 0) + 1
    most = sorted(changes.items(), key=lambda one: (-one[1], one[0]))[:10]
    return {
        "before": before,
        "after": after,
        "inputs": len(pairs),
        "refused": {
            "before": sum(pair.before.why is not None for pair in pairs),
            "after": sum(pair.after.why is not None for pair in pairs),
            "why": next((pair.after.why or pair.before.why for pair in pairs if pair not in both), None),
        }
        if len(both) < len(pairs)
        else None,
        "agreement": sum(agree for agree, _ in found) / len(found) if found else None,
        "score_shift": _spread(moved),
        "changed_labels": [{"from": a, "to": b, "n": n} for (a, b), n in most],
        "accuracy": {
            "n": len(told),
            "before": _right(told, "before"),
            "after": _right(told, "after"),
        }
        if told
        else None,
        "latency_ms": {
            "before": _times([pair.before.ms for pair in both]),
            "after": _times([pair.after.ms for pair in both]),
        },
    }


def table(told: Mapping[str, Any]) -> str:
    """For a person."""
    lines = [f"{told['inputs']} inputs: {told['before']} beside {told['after']}"]
    if told["refused"]:
        refused = told["refused"]
        lines.append(f"refused       {refused['before']} and {refused['after']}: {refused['why']}")
    if told["agreement"] is not None:
        lines.append(f"agreement     {told['agreement']:.1%}")
    lines += [f"              {one['n']} x {one['from']} -> {one['to']}" for one in told["changed_labels"]]
    shift = told["score_shift"]
    if shift:
        moved = f"mean {shift['mean']:+.4f}, std {shift['std']:.4f}, {shift['min']:+.4f} to {shift['max']:+.4f}"
        lines.append(f"score shift   {moved}")
    right = told["accuracy"]
    if right:
        lines.append(f"right         {right['before']:.1%} -> {right['after']:.1%} of {right['n']} with a reference")
    for name in ("p50", "p99"):
        old, new = (told["latency_ms"][side] for side in ("before", "after"))
        if old and new:
            lines.append(f"{name}           {old[name]:.1f} ms -> {new[name]:.1f} ms")
    return "\n".join(lines)


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    if len(a) != len(b):
        return 0.0
    sizes: float = math.hypot(*a) * math.hypot(*b)
    if not sizes:
        return float(list(a) == list(b))
    product: float = sum(x * y for x, y in zip(a, b, strict=True))
    return product / sizes


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _right(pairs: Sequence[Pair], side: str) -> float:
    labels = [label_of((pair.before if side == "before" else pair.after).prediction) for pair in pairs]
    return sum(bool(label == pair.reference) for label, pair in zip(labels, pairs, strict=True)) / len(pairs)


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return {"mean": mean, "std": std, "min": min(values), "max": max(values)}


def _times(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return {f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 99)}
