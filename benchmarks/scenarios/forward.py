"""The bare forward of one request in one process, with one thread: what a server at one connection adds to."""

from collections.abc import Iterator, Mapping

from benchmarks.bodies import KINDS
from benchmarks.inprocess import measure_on_cores
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most
from benchmarks.servers import Server

NAME = "forward"
TITLE = "The bare forward"
RUNS_ON = ("in-process",)


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named kind/precision."""
    for kind in KINDS:
        for precision in ("auto", "float32"):
            (found,) = measure_on_cores(1, ["forward", precision, str(options.loop_s), kind])
            yield f"{kind}/{precision}", {"p50_ms": found["p50_ms"]}


def targets(results: Results) -> Iterator[Outcome]:
    bare = results.median("in-process", NAME, "short/auto", "p50_ms")
    served = results.median("ours", "load", "short/1", "p50_ms")
    added = None if bare is None or served is None else served - bare
    yield at_most("p50 at one connection, short bodies: at most 2 ms over the bare forward", added, 2.0, "ms")
