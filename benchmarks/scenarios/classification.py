"""Texts per second of a classifier and of an embedding model with encoders of one size, on one server, in turns."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.bodies import MIXED
from benchmarks.environments import BUILD
from benchmarks.interleaved import in_turns, share, together
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_least, show, show_percent, table
from benchmarks.servers import Server
from benchmarks.text_models import CLASSIFIER, text_root
from benchmarks.weights import MODEL
from tests.rigs.server import server as own_server

NAME = "classification"
TITLE = "Classification and embedding"
RUNS_ON = ("in-process",)
CONNECTIONS = 8
LIMIT_PERCENT = 95.0


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    folder = BUILD / NAME
    shutil.rmtree(folder, ignore_errors=True)
    settings = {"MODEL_API_EFS_ROOT": text_root(), "MODEL_API_MODELS": f"{MODEL},{CLASSIFIER}"}
    with own_server(folder, **settings, MODEL_API_CACHE="off") as api:
        api.wait_until_ready(within_s=300)
        models = {"embedding": MODEL, "classification": CLASSIFIER}
        asked = {case: (f"{api.url}/predict", _bodies_file(model)) for case, model in models.items()}
        loads = in_turns(asked, CONNECTIONS, options.warm_up_s, 2 * options.mixed_s)
    n_texts = 1 + MIXED.n_texts
    for case, found in loads.items():
        values = together(found)
        part = share(found, loads["embedding"])
        yield case, {**values, "texts_per_s": n_texts * values["req_per_s"], "share": part}


def _bodies_file(model: str) -> Path:
    path = BUILD / "bodies" / f"{NAME}-{model}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    bodies = ({"model": model, "inputs": body.all_texts} for body in MIXED.bodies())
    path.write_text("".join(json.dumps(body) + "\n" for body in bodies))
    return path


def table_of(results: Results) -> str:
    rates = [results.median("in-process", NAME, case, "texts_per_s") for case in ("embedding", "classification")]
    if None in rates:
        return ""
    part = results.median("in-process", NAME, "classification", "share")
    head = ["texts/s", "embedding", "classification", "share"]
    return table(head, [[f"{MIXED.title}, {CONNECTIONS} connections", *map(show, rates), show_percent(part)]])


def targets(results: Results) -> Iterator[Outcome]:
    part = results.median("in-process", NAME, "classification", "share")
    percent = None if part is None else 100 * part
    text = f"classification: at least {LIMIT_PERCENT:g} % of embedding's texts per second, encoders of one size"
    yield at_least(text, percent, LIMIT_PERCENT, "%")
