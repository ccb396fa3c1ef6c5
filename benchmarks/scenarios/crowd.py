"""Small requests beside large ones: the latency of 24 short callers, alone and beside 4 heavy ones."""

from collections.abc import Iterator, Mapping

from benchmarks import wrk
from benchmarks.contenders import CONTENDERS
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, ratio, show, table
from benchmarks.servers import Server

NAME = "crowd"
TITLE = "Small requests beside large ones"
RUNS_ON = ("ours", "ours-fifo")
SHORT_CALLERS = 24
HEAVY_CALLERS = 4
HEAVY_LEAD_S = 1  # the heavy callers start first and end last, so that the short ones never run alone


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    short, heavy = server.bodies_file("short"), server.bodies_file("mixed")
    wrk.run(server.url, short, SHORT_CALLERS, options.warm_up_s)
    server.settle()
    yield "short alone", wrk.run(server.url, short, SHORT_CALLERS, options.crowd_s).values()
    server.settle()
    heavy_load = wrk.start(server.url, heavy, HEAVY_CALLERS, options.crowd_s + 2 * HEAVY_LEAD_S)
    wrk.run(server.url, short, 1, HEAVY_LEAD_S)
    beside = wrk.run(server.url, short, SHORT_CALLERS, options.crowd_s)
    yield "short beside heavy", beside.values()
    yield "heavy beside short", wrk.finish(heavy_load).values()
    server.settle()


def table_of(results: Results) -> str:
    rows = []
    for name in RUNS_ON:
        alone, beside, heavy = (
            results.median(name, NAME, case, "p99_ms")
            for case in ("short alone", "short beside heavy", "heavy beside short")
        )
        if beside is not None:
            figures = (alone, beside, ratio(beside, alone), heavy)
            rows.append([CONTENDERS[name].title, *(show(figure) for figure in figures)])
    return table(["", "short alone, p99 ms", "beside heavy, p99 ms", "ratio", "the heavy ones, p99 ms"], rows)


def targets(results: Results) -> Iterator[Outcome]:
    alone, beside = (results.median("ours", NAME, f"short {how}", "p99_ms") for how in ("alone", "beside heavy"))
    yield at_most("p99 of short callers beside heavy ones: at most 3 times alone", ratio(beside, alone), 3.0, "x")
