"""What a run leaves: its samples, their medians, and how figures become Markdown."""

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One scenario's case on one contender in one round."""

    round: int
    contender: str
    scenario: str
    case: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """A run: where, how, and every sample. The tables are made of medians over the rounds."""

    machine: Mapping[str, Any]
    options: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]]
    samples: Sequence[Sample]

    def median(self, contender: str, scenario: str, case: str, value: str) -> float | None:
        """The median over the rounds, or None if that wasn't measured."""
        values = self._values(contender, scenario, case, value)
        return statistics.median(values) if values else None

    def worst(self, contender: str, scenario: str, case: str, value: str) -> float | None:
        """The largest over the rounds, or None if that wasn't measured."""
        return max(self._values(contender, scenario, case, value), default=None)

    def rate(self, contender: str, kind: str, connections: int) -> float | None:
        """Requests per second over HTTP."""
        return self.median(contender, "load", f"{kind}/{connections}", "req_per_s")

    def most_connections(self) -> int:
        return int(max(self.options["connections"]))

    def errors(self) -> int:
        """Failed requests over all loads."""
        return int(sum(sample.values.get("errors", 0) for sample in self.samples))

    def auto_precision(self) -> str:
        """What `auto` stood for on the machine of the run."""
        return "bfloat16" if {"avx512_bf16", "amx_bf16", "bf16"} & set(self.machine["flags"]) else "float32"

    def _values(self, contender: str, scenario: str, case: str, value: str) -> list[float]:
        places: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for sample in self.samples:
            if value in sample.values:
                places[sample.contender, sample.scenario, sample.case].append(sample.values[value])
        return places[contender, scenario, case]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Results":
        raw = json.loads(text)
        return cls(raw["machine"], raw["options"], raw["settings"], [Sample(**sample) for sample in raw["samples"]])


@dataclass(frozen=True)
class Outcome:
    """A target: what was asked, what was measured (None: not in this run), and whether that is enough."""

    target: str
    measured: float | None
    unit: str
    met: bool | None


def at_least(target: str, measured: float | None, limit: float, unit: str) -> Outcome:
    return Outcome(target, measured, unit, None if measured is None else measured >= limit)


def at_most(target: str, measured: float | None, limit: float, unit: str) -> Outcome:
    return Outcome(target, measured, unit, None if measured is None else measured <= limit)


def ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are figures. "" without rows."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows)) if rows else ""


def show(value: float | None, digits: int = 3) -> str:
    """A figure with about `digits` digits, without an exponent; a dash where nothing was measured."""
    if value is None:
        return "–"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, digits - magnitude)}f}"


def show_percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
