"""Requests per second and latency over HTTP, for each kind of body and number of connections."""

from collections.abc import Iterator, Mapping

from benchmarks import wrk
from benchmarks.bodies import KINDS
from benchmarks.contenders import CONTENDERS
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_least, at_most, ratio, show, table
from benchmarks.servers import Server

NAME = "load"
TITLE = "Throughput and latency"
RUNS_ON = ("ours", "ours-fp32", "naive", "litserve", "infinity")


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named kind/connections, as in short/32."""
    for kind in KINDS:
        bodies = server.bodies_file(kind)
        wrk.run(server.url, bodies, 8, options.warm_up_s)
        for connections in options.connections:
            server.settle()
            found = wrk.run(server.url, bodies, connections, options.load_s(kind, connections))
            yield f"{kind}/{connections}", found.values()
    server.settle()


def table_of(results: Results) -> str:
    """One table per kind of body."""
    return "\n\n".join(f"{kind.title.capitalize()}:\n\n{_table(results, kind.name)}" for kind in KINDS.values())


def _table(results: Results, kind: str) -> str:
    connections = results.options["connections"]
    head = ["", *(f"{value}, {n}" for n in connections for value in ("req/s", "p50 ms", "p99 ms", "ours ÷ it"))]
    rows = []
    for name in RUNS_ON:
        if all(results.rate(name, kind, n) is None for n in connections):
            continue
        row = [CONTENDERS[name].title]
        for n in connections:
            figures = [results.median(name, NAME, f"{kind}/{n}", value) for value in ("req_per_s", "p50_ms", "p99_ms")]
            times = ratio(results.rate("ours", kind, n), figures[0])
            row += [*(show(figure) for figure in figures), "" if name == "ours" else show(times)]
        rows.append(row)
    return table(head, rows)


def targets(results: Results) -> Iterator[Outcome]:
    connections, most = results.options["connections"], results.most_connections()

    def times(peer: str, kind: str, n: int) -> float | None:
        return ratio(results.rate("ours", kind, n), results.rate(peer, kind, n))

    for kind, limit in (("short", 3.5), ("mixed", 5.0)):
        text = f"against the naive baseline, {kind} bodies, {most} connections: at least {limit:g} times"
        yield at_least(text, times("naive", kind, most), limit, "x")
    all_times = [times(peer, kind, n) for peer in ("litserve", "infinity") for kind in KINDS for n in connections]
    least = min((found for found in all_times if found is not None), default=None)
    yield at_least("against the better of LitServe and infinity: at least 2 times everywhere", least, 2.0, "x")
    for kind in KINDS:
        p50, p99 = (results.median("ours", NAME, f"{kind}/{most}", value) for value in ("p50_ms", "p99_ms"))
        yield at_most(f"p99 over p50, {kind} bodies, {most} connections: at most 3 times", ratio(p99, p50), 3.0, "x")
