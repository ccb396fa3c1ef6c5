"""The ceiling of any server around our encoder: a loop over it in one process per core, texts tokenised beforehand."""

from collections.abc import Iterator, Mapping

from benchmarks.bodies import KINDS
from benchmarks.inprocess import N_CORES, measure_on_cores
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_least, ratio
from benchmarks.servers import Server

NAME = "ceiling"
TITLE = "The encoder alone"
RUNS_ON = ("in-process",)


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named kind/precision."""
    for kind in KINDS:
        for precision in ("auto", "float32"):
            rates = measure_on_cores(N_CORES, ["encode", precision, str(options.loop_s), kind])
            yield f"{kind}/{precision}", {name: sum(rate[name] for rate in rates) for name in rates[0]}


def targets(results: Results) -> Iterator[Outcome]:
    rates = [results.rate("ours", "mixed", connections) for connections in results.options["connections"]]
    served = max((found for found in rates if found is not None), default=None)
    share = ratio(served, results.median("in-process", NAME, "mixed/auto", "by_request_req_per_s"))
    percent = None if share is None else 100 * share
    yield at_least("best rate on mixed bodies: at least 80 % of the in-process loop", percent, 80.0, "%")
