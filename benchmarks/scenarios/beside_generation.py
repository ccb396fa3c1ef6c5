"""A /sim alone, and beside summaries that take seconds each: its latency, with one caller and with four.

On two cores one caller finds a core free of generation; four keep both busy by themselves, so they can at best share.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import wrk
from benchmarks.bodies import KINDS, WORDS
from benchmarks.environments import BUILD
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, ratio, show, table
from benchmarks.servers import Server
from benchmarks.text_models import SUMMARISER, text_root
from benchmarks.weights import MODEL
from tests.rigs.server import server as own_server

NAME = "beside_generation"
TITLE = "Similarity beside long summaries"
RUNS_ON = ("in-process",)
CALLERS = (1, 4)
GENERATING_CALLERS = 2
ARTICLES, ARTICLE_WORDS, NEW_TOKENS, BEAMS = 4, 250, 128, 4
LEAD_S = 2  # generation starts first and ends last
LIMIT = 3.0


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named alone/callers and beside/callers."""
    folder = BUILD / NAME
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"MODEL_API_EFS_ROOT": text_root(), "MODEL_API_MODELS": f"{MODEL},{SUMMARISER}"}
    with own_server(folder, **settings, MODEL_API_CACHE="off") as api:
        api.wait_until_ready(within_s=300)
        sims = [{"model": MODEL, "target": b.target, "texts": b.texts} for b in KINDS["short"].bodies()]
        short, long = _file("sims", sims), _file("articles", _articles())
        wrk.run(f"{api.url}/sim", short, max(CALLERS), options.warm_up_s)
        for n in CALLERS:
            yield f"alone/{n}", wrk.run(f"{api.url}/sim", short, n, options.crowd_s).values()
            lasting_s = options.crowd_s + 2 * LEAD_S
            generating = wrk.start(f"{api.url}/predict", long, GENERATING_CALLERS, lasting_s)
            wrk.run(f"{api.url}/sim", short, 1, LEAD_S)
            yield f"beside/{n}", wrk.run(f"{api.url}/sim", short, n, options.crowd_s).values()
            yield f"generation/{n}", wrk.finish(generating).values()


def _articles() -> list[Mapping[str, Any]]:
    search = {"num_beams": BEAMS, "min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
    text = " ".join((WORDS * (1 + ARTICLE_WORDS // len(WORDS)))[:ARTICLE_WORDS])
    return [{"model": SUMMARISER, "inputs": [text] * ARTICLES, "parameters": search}]


def _file(name: str, documents: Sequence[Mapping[str, Any]]) -> Path:
    path = BUILD / "bodies" / f"{NAME}-{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def table_of(results: Results) -> str:
    rows = []
    for n in CALLERS:
        row = [f"{n} caller{'s' if n > 1 else ''}"]
        for value in ("p50_ms", "p99_ms"):
            alone, beside = (results.median("in-process", NAME, f"{how}/{n}", value) for how in ("alone", "beside"))
            row += [show(alone), show(beside), show(ratio(beside, alone))]
        if results.median("in-process", NAME, f"beside/{n}", "p50_ms") is not None:
            rows.append([*row, show(results.median("in-process", NAME, f"generation/{n}", "p50_ms"))])
    head = ["/sim", *(f"{p}, {what}" for p in ("p50", "p99") for what in ("alone, ms", "beside, ms", "ratio"))]
    return table([*head, "a request for summaries, p50 ms"], rows)


def targets(results: Results) -> Iterator[Outcome]:
    alone, beside = (results.median("in-process", NAME, f"{how}/1", "p99_ms") for how in ("alone", "beside"))
    text = f"p99 of a /sim caller beside long summaries: at most {LIMIT:g} times alone"
    yield at_most(text, ratio(beside, alone), LIMIT, "x")
