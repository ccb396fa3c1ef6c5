"""Find a peer's better setting: try every candidate briefly and rank them. The chosen ones stand in contenders.py."""

import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import wrk
from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.options import Options
from benchmarks.scenarios import agreement
from benchmarks.servers import ServerFailed, running

CASES = (("short", 1), ("short", 32), ("mixed", 4))


def tune(name: str, options: Options) -> list[Mapping[str, Any]]:
    """One row per candidate, the best first by the geometric mean of its rates; a failure is a row with its reason."""
    rows: list[dict[str, Any]] = []
    for settings in CONTENDERS[name].candidates:
        candidate = dataclasses.replace(CONTENDERS[name], settings=settings)
        row: dict[str, Any] = {"settings": dict(settings)}
        try:
            with running(candidate) as server:
                list(agreement.measure(server, options))
                for kind, connections in CASES:
                    bodies = server.bodies_file(kind)
                    wrk.run(server.url, bodies, connections, options.warm_up_s)
                    server.settle()
                    seconds = options.short_s if kind == "short" else options.mixed_s
                    row[f"{kind}/{connections}"] = wrk.run(server.url, bodies, connections, seconds).per_s
            row["score"] = math.exp(sum(math.log(row[f"{k}/{c}"] or 1e-9) for k, c in CASES) / len(CASES))
        except (ServerFailed, agreement.Disagreement, wrk.LoadFailed) as error:
            row |= {"score": 0.0, "failed": str(error).strip().splitlines()[-1][:200]}
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return sorted(rows, key=lambda row: -row["score"])


def render(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table; only the settings that differ between candidates are shown."""
    keys = [key for key in rows[0]["settings"] if len({str(row["settings"][key]) for row in rows}) > 1]
    cases = [f"{kind}/{connections}" for kind, connections in CASES]
    head = [*keys, *cases, "mean"]
    lines = [f"### {CONTENDERS[name].title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        shown = [str(row["settings"][key]) for key in keys]
        figures = [f"{row[case]:.1f}" if case in row else "-" for case in cases]
        lines.append(f"| {' | '.join([*shown, *figures, row.get('failed') or format(row['score'], '.1f')])} |")
    return "\n".join([*lines, ""])


def with_best(contender: Contender, rows: Sequence[Mapping[str, Any]]) -> Contender:
    """`contender` with the settings of the best row that worked; as it is if there is none."""
    best = max(rows, key=lambda row: float(row["score"]), default=None)
    return dataclasses.replace(contender, settings=best["settings"]) if best and best["score"] > 0 else contender
