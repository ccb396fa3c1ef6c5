"""`benchmarks/run`: measure, tune the peers' settings, or write docs/performance.md from the last run."""

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import report, rounds, tuning
from benchmarks.contenders import CONTENDERS
from benchmarks.environments import BUILD, ROOT
from benchmarks.options import QUICK, Options
from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS

RESULTS = BUILD / "results.json"
TUNING = BUILD / "tuning.json"
PERFORMANCE = ROOT / "docs" / "performance.md"


def _names(known: list[str]) -> Callable[[str], list[str]]:
    def parse(value: str) -> list[str]:
        names = value.split(",")
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return [name for name in known if name in names]

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    verbs = parser.add_subparsers(dest="verb")
    contenders, scenarios = list(CONTENDERS), [scenario.name for scenario in SCENARIOS]
    run = verbs.add_parser("run", help="measure and print the tables (the default)")
    run.add_argument("--only", type=_names(contenders), default=contenders, help="contenders, comma-separated")
    run.add_argument("--scenarios", type=_names(scenarios), default=scenarios, help="scenarios, comma-separated")
    run.add_argument(
        "--tuned", action="store_true", help="run the peers with what `tune` found best, not the settings in the code"
    )
    tune = verbs.add_parser("tune", help="try the peers' candidate settings")
    tunable = [name for name, contender in CONTENDERS.items() if contender.candidates]
    tune.add_argument("--only", type=_names(tunable), default=tunable, help="peers, comma-separated")
    for verb in (run, tune):
        verb.add_argument("--quick", action="store_true", help="seconds instead of minutes: to try the tool itself")
        verb.add_argument("--rounds", type=int, help="how often everything is measured")
        verb.add_argument("--scale", type=float, default=1.0, help="multiply all durations")
        verb.add_argument("--json", type=Path, help="where the figures go (build/benchmarks/)")
    write = verbs.add_parser("report", help="write docs/performance.md from a run's JSON")
    write.add_argument("--json", type=Path, default=RESULTS, help="the run")
    write.add_argument("--tuning", type=Path, default=TUNING, help="what `tune` found, if it was run")
    write.add_argument("--output", type=Path, default=PERFORMANCE)
    verbs.add_parser("list", help="contenders and scenarios")
    return parser


def _options(arguments: argparse.Namespace) -> Options:
    base = QUICK if arguments.quick else Options()
    durations = {f.name: getattr(base, f.name) * arguments.scale for f in dataclasses.fields(base) if f.type is float}
    return dataclasses.replace(base, **durations, rounds=arguments.rounds or base.rounds)


def _tried(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What `tune` found, by peer; nothing if it wasn't run."""
    return json.loads(path.read_text()) if path.exists() else {}


def main(argv: list[str]) -> int:
    """Exit codes: 0, 1 if requests failed during a run, 2 for bad arguments."""
    parser = _parser()
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["run", *argv]
    arguments = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, and so ends the server under test
    if arguments.verb == "list":
        print("contenders:", *(f"  {c.name:12} {c.title}" for c in CONTENDERS.values()), sep="\n")
        print("scenarios:", *(f"  {s.name}" for s in SCENARIOS), sep="\n")
    elif arguments.verb == "tune":
        found = {name: tuning.tune(name, _options(arguments)) for name in arguments.only}
        (arguments.json or TUNING).parent.mkdir(parents=True, exist_ok=True)
        (arguments.json or TUNING).write_text(json.dumps(found, indent=1))
        print(*(tuning.render(name, rows) for name, rows in found.items()), sep="\n")
    elif arguments.verb == "report":
        tried = _tried(arguments.tuning)
        results = Results.from_json(arguments.json.read_text())
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(report.performance_page(results, tried))
        print(f"wrote {arguments.output}")
    else:
        tried = _tried(TUNING) if arguments.tuned else {}
        contenders = [tuning.with_best(CONTENDERS[name], tried.get(name, ())) for name in arguments.only]
        results = rounds.run(contenders, arguments.scenarios, _options(arguments), arguments.json or RESULTS)
        print(report.tables(results))
        return 1 if results.errors() else 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
