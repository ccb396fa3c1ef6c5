"""Process start to the first 200 on the liveness path and on the readiness path, the page cache warm."""

from collections.abc import Iterator, Mapping

from benchmarks.contenders import CONTENDERS
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, show, table
from benchmarks.servers import Server

NAME = "startup"
TITLE = "Start and memory"
RUNS_ON = None


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    yield "start", {"alive_s": server.alive_s, "ready_s": server.ready_s}


def table_of(results: Results) -> str:
    """With the peak memory and the agreement of each server."""
    rows = []
    for name, contender in CONTENDERS.items():
        alive, ready = (results.median(name, NAME, "start", value) for value in ("alive_s", "ready_s"))
        peak = results.worst(name, "memory", "peak", "pss_mb")
        difference = results.worst(name, "agreement", "scores", "worst_difference")
        if alive is not None:
            off = "–" if difference is None else f"{difference:.1e}"
            rows.append([contender.title, show(alive), show(ready), show(peak), off])
    return table(["", "alive after s", "ready after s", "peak PSS MB", "largest difference of a score"], rows)


def targets(results: Results) -> Iterator[Outcome]:
    for value, limit, what in (("alive_s", 1.0, "liveness"), ("ready_s", 3.5, "ready")):
        text = f"process start to {what}: at most {limit:g} s"
        yield at_most(text, results.median("ours", NAME, "start", value), limit, "s")
