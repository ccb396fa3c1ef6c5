"""Loads of which only the ratio matters, in short turns: so a drift of the machine meets them alike."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import wrk

TURNS = 4


def in_turns(
    asked: Mapping[str, tuple[str, Path]], connections: int, warm_up_s: float, seconds: float
) -> dict[str, list[wrk.Load]]:
    """Load each of `asked` (name -> URL, bodies) in turn, TURNS times, for `seconds` each in all; their loads."""
    names = list(asked)
    for name in names:
        wrk.run(*asked[name], connections, warm_up_s)
    loads: dict[str, list[wrk.Load]] = {name: [] for name in names}
    for _ in range(TURNS):
        for name in names:
            loads[name].append(wrk.run(*asked[name], connections, seconds / TURNS))
        names.reverse()
    return loads


def together(loads: Sequence[wrk.Load]) -> dict[str, float]:
    """The rate over all turns, and the failed requests."""
    n_requests = sum(load.requests for load in loads)
    return {
        "req_per_s": n_requests / sum(load.duration_s for load in loads),
        "requests": n_requests,
        "errors": sum(load.errors for load in loads),
    }


def share(part: Sequence[wrk.Load], whole: Sequence[wrk.Load]) -> float:
    """The median over the turns of the one's rate divided by the other's."""
    return statistics.median(a.per_s / b.per_s for a, b in zip(part, whole, strict=True))
