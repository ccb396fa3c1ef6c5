"""What is measured: one module per scenario, run in this order on every contender that it names.

To add a scenario, write a module and name it in `_MODULES`. It has

- `NAME`, `TITLE`, and `RUNS_ON`: names of benchmarks/contenders.py, or None for every server;
- `measure(server, options)`, which yields cases with their values; a value named `errors` counts failed requests;
- `table_of(results)`, if it has a table: Markdown, "" if nothing was measured;
- `targets(results)`, if it has targets: what was to be reached and whether it was.

benchmarks/performance.template.md may name a table by `$NAME`; tables that it doesn't name come at its end.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType

from benchmarks.options import Options
from benchmarks.results import Outcome, Results
from benchmarks.scenarios import (
    agreement,
    beside_generation,
    bound,
    cached,
    ceiling,
    classification,
    cold_load,
    crowd,
    forward,
    load,
    many_models,
    memory,
    startup,
    summaries,
)
from benchmarks.servers import Server

_MODULES = (
    startup,
    agreement,
    load,
    crowd,
    memory,
    cached,
    bound,
    ceiling,
    forward,
    cold_load,
    many_models,
    summaries,
    classification,
    beside_generation,
)


@dataclass(frozen=True)
class Scenario:
    """A scenario module, with types."""

    name: str
    title: str
    contenders: Sequence[str] | None
    measure: Callable[[Server, Options], Iterator[tuple[str, Mapping[str, float]]]]
    table_of: Callable[[Results], str] | None
    targets: Callable[[Results], Iterable[Outcome]] | None

    @classmethod
    def of(cls, module: ModuleType) -> "Scenario":
        table_of, targets = getattr(module, "table_of", None), getattr(module, "targets", None)
        return cls(module.NAME, module.TITLE, module.RUNS_ON, module.measure, table_of, targets)

    def applies_to(self, contender: str, is_server: bool) -> bool:
        return is_server if self.contenders is None else contender in self.contenders


SCENARIOS: Sequence[Scenario] = tuple(Scenario.of(module) for module in _MODULES)
