"""What the processor can do at most: the rate of large matrix products with prepacked weights, on one and two cores."""

from collections.abc import Iterator, Mapping

from benchmarks.bodies import KINDS, Kind, token_count
from benchmarks.inprocess import measure_on_cores
from benchmarks.options import Options
from benchmarks.results import Results, ratio, show, show_percent, table
from benchmarks.servers import Server

NAME = "bound"
TITLE = "The bound"
RUNS_ON = ("in-process",)
# all-MiniLM-L6-v2: per layer four products of 384 x 384 and two of 384 x 1536, and attention's two per pair of tokens.
LAYERS, HIDDEN, FFN = 6, 384, 1536


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named precision/cores, as in bfloat16/2; cores are measured at the same time."""
    for precision in ("float32", "bfloat16"):
        for cores in (1, 2):
            rates = measure_on_cores(cores, ["gemm", precision, str(options.loop_s)])
            yield f"{precision}/{cores}", {"gflop_per_s": sum(rate["gflop_per_s"] for rate in rates)}


def flops(kind: Kind) -> float:
    """Floating-point operations of the model for an average body of `kind`, padding not counted."""
    bodies = kind.bodies()
    per_token = LAYERS * 2 * (4 * HIDDEN * HIDDEN + 2 * HIDDEN * FFN)
    lengths = [token_count(text) for body in bodies for text in body.all_texts]
    return sum(n * per_token + LAYERS * 4 * HIDDEN * n * n for n in lengths) / len(bodies)


def table_of(results: Results) -> str:
    """Per kind and precision: what the processor, the encoder alone and the server reach, in requests per second."""
    rows = []
    for kind in KINDS.values():
        for name, asked in (("ours", "auto"), ("ours-fp32", "float32")):
            precision = results.auto_precision() if asked == "auto" else asked
            peak = results.median("in-process", NAME, f"{precision}/2", "gflop_per_s")
            limit = None if peak is None else peak * 1e9 / flops(kind)
            case = f"{kind.name}/{asked}"
            by_request = results.median("in-process", "ceiling", case, "by_request_req_per_s")
            pooled = results.median("in-process", "ceiling", case, "pooled_req_per_s")
            rates = [results.rate(name, kind.name, connections) for connections in results.options["connections"]]
            served = max((rate for rate in rates if rate is not None), default=None)
            figures = [show(figure) for figure in (peak, limit, by_request, pooled, served)]
            rows.append([f"{kind.name}, {precision}", *figures, show_percent(ratio(served, by_request))])
    head = ["", "GFLOP/s", "bound", "encoder, by request", "encoder, texts pooled", "served", "served ÷ by request"]
    return table(head, rows)
