"""Results as Markdown: the tables that a run prints, and docs/performance.md. Every figure comes from the JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.results import Outcome, Results, show, table
from benchmarks.scenarios import SCENARIOS
from benchmarks.tuning import render as render_tuning

TEMPLATE = Path(__file__).with_name("performance.template.md")


def target_table(results: Results) -> str:
    """Every target of every scenario, and that no request failed."""
    outcomes = [outcome for scenario in SCENARIOS if scenario.targets for outcome in scenario.targets(results)]
    outcomes.append(Outcome("failed requests: none", float(results.errors()), "", results.errors() == 0))
    verdicts = {None: "not measured", True: "met", False: "**missed**"}
    rows = [
        [o.target, f"{show(o.measured)} {o.unit if o.met is not None else ''}".strip(), verdicts[o.met]]
        for o in outcomes
    ]
    return table(["target", "measured", ""], rows)


def machine_list(results: Results) -> str:
    machine, options = results.machine, results.options
    loads = {"short bodies": "short_s", "mixed": "mixed_s", "mixed, 32 connections": "mixed_crowded_s"}
    seconds = ", ".join(f"{options[name]:g} ({what})" for what, name in loads.items())
    lines = [
        f"date: {machine['date']}",
        f"processor: {machine['processor']}, {machine['cores']} cores ({', '.join(machine['flags'])})",
        f"memory: {machine['memory_gb']} GB; kernel {machine['kernel']}; Python {machine['python']}",
        f"load average before the run: {machine['load_before']}; load generator: {machine['wrk']}",
        f"rounds: {options['rounds']}; seconds of each load: {seconds}",
        *(f"{who}: {', '.join(f'{p} {v}' for p, v in found.items())}" for who, found in machine["packages"].items()),
    ]
    return "\n".join(f"- {line}" for line in lines)


def settings_list(results: Results) -> str:
    """What the peers that have a choice were run with."""
    lines = []
    for name, settings in results.settings.items():
        if CONTENDERS[name].candidates:
            lines.append(
                f"- {CONTENDERS[name].title}: {', '.join(f'{key} {value}' for key, value in settings.items())}"
            )
    return "\n".join(lines)


def tables_by_scenario(results: Results) -> dict[str, str]:
    """Every scenario's table that has a line; by the scenario's name."""
    return {s.name: found for s in SCENARIOS if s.table_of and (found := s.table_of(results))}


def tables(results: Results) -> str:
    """Everything, for the terminal."""
    found = tables_by_scenario(results)
    parts = [f"## {s.title}\n\n{found[s.name]}" for s in SCENARIOS if s.name in found]
    return "\n\n".join([machine_list(results), *parts, f"## Targets\n\n{target_table(results)}"])


def performance_page(results: Results, tried: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """docs/performance.md; `tried` is what `tune` found, by peer. Raises KeyError for an unknown name in it."""
    template = Template(TEMPLATE.read_text())
    named = set(template.get_identifiers())
    found = tables_by_scenario(results)
    others = [f"## {s.title}\n\n{found[s.name]}\n" for s in SCENARIOS if s.name in found and s.name not in named]
    shown = {s.name: found.get(s.name, "Not measured in this run.") for s in SCENARIOS}
    return template.substitute(
        shown,
        machine=machine_list(results),
        settings=settings_list(results),
        targets=target_table(results),
        tuning="\n".join(render_tuning(name, rows) for name, rows in tried.items()) or "No tuning run is at hand.\n",
        others="\n".join(others),
    )
