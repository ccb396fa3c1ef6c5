"""Summarisation against transformers' generate, one thread each, in one run."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping

from benchmarks.environments import ROOT, own_python
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_least
from benchmarks.servers import Server

NAME = "summaries"
TITLE = "Summaries of a T5-small"
RUNS_ON = ("in-process",)
CASES = [f"batch {n}, beams {beams}" for n in (1, 8) for beams in (1, 4)]


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Summaries per second, and how many times transformers' rate ours are."""
    done = subprocess.run(
        [str(own_python()), "-m", "benchmarks.generation", str(options.loop_s)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    for case, rates in json.loads(done.stdout.splitlines()[-1]).items():
        gains = {f"{kind}_gain": rates[kind] / rates["transformers"] for kind in ("int8", "float32")}
        yield case, {**rates, **gains}


def table_of(results: Results) -> str:
    rows = []
    for case in CASES:
        values = [
            results.median("in-process", NAME, case, name)
            for name in ("transformers", "float32", "int8", "float32_gain", "int8_gain")
        ]
        if all(value is not None for value in values):
            rows.append(f"| {case} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    head = "| summaries/s | transformers | float32 | int8 | float32 gain | int8 gain |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(rows) + "\n" if rows else ""


def targets(results: Results) -> Iterator[Outcome]:
    for case in CASES:
        gain = results.median("in-process", NAME, case, "int8_gain")
        yield at_least(f"summaries, {case}: at least 3 times transformers' generate (int8)", gain, 3.0, "x")
