"""Measurements without a server, each in single-threaded processes of its own, started together.

`python -m benchmarks.inprocess gemm|encode|forward ...` is what such a process runs; it prints one JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.bodies import KINDS
from benchmarks.environments import ROOT, own_python
from benchmarks.weights import model_folder

N_CORES = 2 if (os.cpu_count() or 1) >= 2 else 1
BATCH_TOKENS = (256, 512, 2048)
LOOP_TEXTS = 256  # about as many are gone through in one pass: few enough for several passes
# Large enough to reach the peak.
GEMM_ROWS, GEMM_INNER, GEMM_COLUMNS = 1024, 1024, 4096


def measure_on_cores(n_processes: int, arguments: Sequence[str]) -> list[Mapping[str, float]]:
    """Run the same measurement in `n_processes` processes at once; their results."""
    command = [str(own_python()), "-m", "benchmarks.inprocess", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        for _ in range(n_processes)
    ]
    for process in processes:  # all have loaded and warmed: start together
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(arguments)} failed to start")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [json.loads(process.communicate()[0]) for process in processes]


def _wait_for_go() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def _gemm(precision: str, seconds: float) -> Mapping[str, float]:
    """GFLOP/s of one thread through the same prepacked product that the encoder uses."""
    import torch

    from model_api.compute.linear import Linear

    dtype = getattr(torch, precision)
    weight, bias = torch.randn(GEMM_COLUMNS, GEMM_INNER), torch.zeros(GEMM_COLUMNS)
    linear = Linear(weight.to(dtype), bias.to(dtype))
    x = torch.randn(GEMM_ROWS, GEMM_INNER).to(dtype)
    with torch.inference_mode():
        linear(x)
        _wait_for_go()
        times = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.perf_counter()
            linear(x)
            times.append(time.perf_counter() - started)
    return {"gflop_per_s": 2 * GEMM_ROWS * GEMM_INNER * GEMM_COLUMNS / statistics.median(times) / 1e9}


def _load(precision: str, kind: str) -> tuple[Any, list[list[Any]]]:
    """The encoder, and for each body the token ids of its texts; at least 8 bodies."""
    import numpy as np
    from tokenizers import Tokenizer

    from model_api.compute.encoder import Encoder
    from model_api.compute.processor import choose_precision

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    chosen = KINDS[kind].bodies()[: max(8, LOOP_TEXTS // (1 + KINDS[kind].n_texts))]
    bodies = [[np.array(tokenizer.encode(text).ids, np.int32) for text in body.all_texts] for body in chosen]
    return Encoder.load(model_folder(), choose_precision(precision)), bodies


def micro_batches(texts: Sequence[Any], max_tokens: int) -> list[list[Any]]:
    """Texts sorted by length, cut into batches of at most `max_tokens` tokens (a single longer one goes alone)."""
    batches: list[list[Any]] = []
    room = 0
    for text in sorted(texts, key=len):
        if len(text) > room or not batches:
            batches.append([])
            room = max_tokens
        batches[-1].append(text)
        room -= len(text)
    return batches


def _encode(precision: str, seconds: float, kind: str) -> Mapping[str, float]:
    """Requests per second of one thread, request by request and with all requests' texts sorted together.

    Each is the best over BATCH_TOKENS.
    """
    encoder, bodies = _load(precision, kind)
    everything = [text for body in bodies for text in body]
    orders = {
        "by_request": [[b for body in bodies for b in micro_batches(body, tokens)] for tokens in BATCH_TOKENS],
        "pooled": [micro_batches(everything, tokens) for tokens in BATCH_TOKENS],
    }
    for batch in orders["pooled"][0]:
        encoder.pooled(batch, "mean")
    _wait_for_go()
    return {
        f"{name}_req_per_s": max(_rate(encoder, batches, len(bodies), seconds / len(BATCH_TOKENS)) for batches in cuts)
        for name, cuts in orders.items()
    }


def _rate(encoder: Any, batches: Sequence[Sequence[Any]], n_bodies: int, seconds: float) -> float:
    """Bodies per second when `batches`, which make up `n_bodies`, are encoded over and over."""
    passes = 0
    started = time.perf_counter()
    while passes == 0 or time.perf_counter() - started < seconds:
        for batch in batches:
            encoder.pooled(batch, "mean")
        passes += 1
    return passes * n_bodies / (time.perf_counter() - started)


def _forward(precision: str, seconds: float, kind: str) -> Mapping[str, float]:
    """The median time of one request's texts in one call."""
    encoder, bodies = _load(precision, kind)
    for body in bodies:
        encoder.pooled(body, "mean")
    _wait_for_go()
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or not times:
        for body in bodies:
            started = time.perf_counter()
            encoder.pooled(body, "mean")
            times.append(time.perf_counter() - started)
    return {"p50_ms": statistics.median(times) * 1e3}


def main(arguments: Sequence[str]) -> None:
    what, precision, seconds, *rest = arguments
    if what == "gemm":
        result = _gemm(precision, float(seconds))
    elif what == "encode":
        result = _encode(precision, float(seconds), rest[0])
    else:
        result = _forward(precision, float(seconds), rest[0])
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
