"""Run the rounds: every contender in turn, in both directions alternately, so that a drift of the machine evens out."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.contenders import Contender
from benchmarks.machine import describe
from benchmarks.options import Options
from benchmarks.results import Results, Sample
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import running


def run(contenders: Sequence[Contender], scenarios: Sequence[str], options: Options, target: Path) -> Results:
    """Measure, writing the results so far to `target` after every contender."""
    machine = describe([contender.name for contender in contenders])
    settings = {contender.name: dict(contender.settings) for contender in contenders}
    samples: list[Sample] = []
    results = Results(machine, asdict(options), settings, samples)
    target.parent.mkdir(parents=True, exist_ok=True)
    for number in range(options.rounds):
        for contender in contenders if number % 2 == 0 else list(reversed(contenders)):
            name = contender.name
            wanted = [s for s in SCENARIOS if s.name in scenarios and s.applies_to(name, contender.launch is not None)]
            if not wanted:
                continue
            with running(contender) as server:
                for scenario in wanted:
                    for case, values in scenario.measure(server, options):
                        samples.append(Sample(number, name, scenario.name, case, dict(values)))
                        _say(number, options.rounds, name, scenario.name, case, values)
            target.write_text(results.to_json())
    return results


def _say(number: int, rounds: int, name: str, scenario: str, case: str, values: Mapping[str, float]) -> None:
    figures = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
    print(f"[{number + 1}/{rounds}] {name:11} {scenario:9} {case:20} {figures}", file=sys.stderr, flush=True)
