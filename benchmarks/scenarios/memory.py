"""The largest PSS summed over all processes of the server, from its start to the end of its loads."""

from collections.abc import Iterator, Mapping

from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, ratio
from benchmarks.servers import Server

NAME = "memory"
TITLE = "Memory"
RUNS_ON = ("ours", "ours-fp32", "naive", "litserve", "infinity")


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    server.memory.sample()
    yield "peak", {"pss_mb": server.memory.peak_bytes / 1e6}


def targets(results: Results) -> Iterator[Outcome]:
    peaks = [results.worst(peer, NAME, "peak", "pss_mb") for peer in ("naive", "litserve", "infinity")]
    least = min((peak for peak in peaks if peak is not None), default=None)
    share = ratio(results.worst("ours", NAME, "peak", "pss_mb"), least)
    yield at_most("peak memory below every peer's: less than 1 times the smallest", share, 1.0, "x")
