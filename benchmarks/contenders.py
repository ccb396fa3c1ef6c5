"""Who is measured: our server in several settings, and its peers at their better settings.

A peer's settings are the best that `benchmarks/run tune` found among its candidates; docs/performance.md shows all.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.bodies import EMBEDDINGS, SIM, Dialect
from benchmarks.environments import BUILD, ROOT, own_python, peer_python
from benchmarks.weights import model_folder, onnx_folder, published_root
from model_api.compute.processor import choose_precision

Settings = Mapping[str, Any]
PEERS = ROOT / "benchmarks" / "peers"
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-3}

INFINITY = {
    "engine": "torch",
    "dtype": "bfloat16",
    "max_batch": 32,
    "workers": 1,
    "threads": 2,
    "compile": False,
    "bettertransformer": False,
    "lengths_via_tokenize": False,
    "native": False,
}
LITSERVE = {
    "dtype": "bfloat16",
    "max_batch": 8,
    "batch_timeout_s": 0.005,
    "workers": 2,
    "threads": 1,
    "encode_batch": 64,
    "fast_queue": True,
}


@dataclass(frozen=True)
class Launch:
    """How to start a server: a command, and what its environment holds beside the harness's own."""

    command: Sequence[str]
    environment: Mapping[str, str]
    alive_path: str
    ready_path: str
    dialect: Dialect = SIM
    precision: str = "float32"


@dataclass(frozen=True)
class Contender:
    """One line of the tables. `launch` is None for what is measured inside a process, without a server."""

    name: str
    title: str
    launch: Callable[[int, Settings], Launch] | None
    settings: Settings = field(default_factory=dict)
    candidates: Sequence[Settings] = ()


def machine_precision() -> str:
    """What our server computes in when it may choose."""
    return choose_precision("auto")


def _ours(port: int, settings: Settings) -> Launch:
    environment = {
        "PORT": str(port),
        "MODEL_API_EFS_ROOT": str(published_root()),
        "MODEL_API_LOCAL_STORE": str(BUILD / "local_store"),
        "MODEL_API_PRECISION": settings["precision"],
        "PYTHONPATH": str(ROOT),
    }
    command = [str(own_python().with_name("gunicorn")), "--config", "gunicorn.conf.py", settings["application"]]
    precision = machine_precision() if settings["precision"] == "auto" else settings["precision"]
    return Launch(command, environment, "/healthz", "/readyz", precision=precision)


def _peer(name: str, settings: Settings, port: int, model: Path) -> dict[str, str]:
    return {
        "PORT": str(port),
        "BENCH_MODEL": str(model),
        "BENCH_SETTINGS": json.dumps(dict(settings)),
        "OMP_NUM_THREADS": str(settings["threads"]),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(BUILD / f"hf-{name}"),
        "DO_NOT_TRACK": "1",
        "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    }


def _naive(port: int, settings: Settings) -> Launch:
    # It would find this project's gunicorn.conf.py in the working directory.
    gunicorn = [str(peer_python("naive").with_name("gunicorn")), "--config", os.devnull]
    gunicorn += ["--workers", str(settings["workers"])]
    options = ["--worker-class", "sync", "--timeout", "120", "--bind", f"127.0.0.1:{port}", "--chdir", str(PEERS)]
    environment = _peer("naive", settings, port, model_folder())
    return Launch([*gunicorn, *options, "serve_naive"], environment, "/readyz", "/readyz")


def _litserve(port: int, settings: Settings) -> Launch:
    command = [str(peer_python("litserve")), str(PEERS / "serve_litserve.py")]
    environment = _peer("litserve", settings, port, model_folder())
    return Launch(command, environment, "/health", "/health", precision=settings["dtype"])


def _infinity(port: int, settings: Settings) -> Launch:
    command = [str(peer_python("infinity")), str(PEERS / "serve_infinity.py")]
    model = onnx_folder() if settings["engine"] == "optimum" else model_folder()
    environment = _peer("infinity", settings, port, model)
    alive = "/health" if settings["native"] else "/readyz"
    dialect = EMBEDDINGS if settings["native"] else SIM
    return Launch(command, environment, alive, alive, dialect, settings["dtype"])


def _grid(base: Settings, **choices: Sequence[Any]) -> list[Settings]:
    """`base` with every combination of `choices`."""
    return [{**base, **dict(zip(choices, values, strict=True))} for values in product(*choices.values())]


LITSERVE_CANDIDATES = [
    *_grid(LITSERVE, max_batch=[1, 8, 16, 64], batch_timeout_s=[0.0, 0.005]),
    *_grid({**LITSERVE, "workers": 1, "threads": 2}, max_batch=[8, 64]),
    *_grid(LITSERVE, encode_batch=[32, 128]),
    *_grid(LITSERVE, dtype=["float32"], max_batch=[8, 16, 64]),
    *_grid(LITSERVE, fast_queue=[False]),
]
INFINITY_CANDIDATES = [
    *_grid(INFINITY, max_batch=[8, 32, 128], bettertransformer=[False, True]),
    *_grid(INFINITY, dtype=["float32"], max_batch=[8, 32]),
    *_grid({**INFINITY, "workers": 2, "threads": 1}, max_batch=[8, 32], dtype=["float32", "bfloat16"]),
    *_grid(INFINITY, lengths_via_tokenize=[True]),
    *_grid({**INFINITY, "dtype": "float32", "engine": "optimum"}, max_batch=[8, 32, 128]),
    *_grid({**INFINITY, "dtype": "float32", "engine": "optimum", "workers": 2, "threads": 1}, max_batch=[8, 32]),
    *_grid(INFINITY, native=[True]),
    *_grid({**INFINITY, "dtype": "float32", "engine": "optimum"}, native=[True]),
]

OURS = {"application": "application:application", "precision": "auto"}
CONTENDERS: Mapping[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("ours", "this project", _ours, OURS),
        Contender("ours-fp32", "this project, float32", _ours, {**OURS, "precision": "float32"}),
        Contender(
            "naive",
            "Flask + sentence-transformers, 2 sync workers",
            _naive,
            {"workers": 2, "threads": 1},
        ),
        Contender("litserve", "LitServe", _litserve, LITSERVE, LITSERVE_CANDIDATES),
        Contender("infinity", "infinity-emb", _infinity, INFINITY, INFINITY_CANDIDATES),
        Contender(
            "ours-fifo",
            "this project, first come first served",
            _ours,
            {**OURS, "application": "benchmarks.fifo:application"},
        ),
        Contender("in-process", "our encoder in a loop, no server", None),
    )
}
