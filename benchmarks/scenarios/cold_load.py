"""A first start with a model of 711 MB on the FUSE stand-in for EFS, and a restart from the local store.

Random weights of BERT multilingual's size; 3 ms per operation, reads included, and a rate that the stand-in is shown
to sustain in the same run. Needs root and fuse3; elsewhere nothing is measured.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.environments import BUILD
from benchmarks.options import Options
from benchmarks.results import Outcome, Results, at_most, ratio, show, table
from benchmarks.servers import Server
from tests.rigs.author import Author
from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.models import MULTILINGUAL_BASE, tiny_model
from tests.rigs.server import server as own_server

NAME = "cold_load"
TITLE = "Cold load"
RUNS_ON = ("in-process",)
RATES_MB_PER_S = (100, 200)
LATENCY_S = 0.003
LIMIT = 1.3
READERS, BLOCK_BYTES = 8, 4 * 2**20


def measure(server: Server, options: Options) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Cases are named by the rate. Copy and load begin with the first byte, a restart with its process."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        return
    folder = BUILD / "cold_load"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with fuse_efs(folder, attribute_cache_s=1.0) as efs:
            model = tiny_model(folder / "model", seed=1, size=MULTILINGUAL_BASE)
            version = Author(efs.backing).publish(model, "multilingual").version
            shutil.rmtree(model)
            for mb_per_s in RATES_MB_PER_S:
                yield f"{mb_per_s} MB/s", _at_rate(efs, folder, version, mb_per_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _at_rate(efs: FuseEfs, folder: Path, version: str, mb_per_s: int) -> Mapping[str, float]:
    weights = efs.root / "models" / "multilingual" / "versions" / version / "model.safetensors"
    efs.behave(latency_s=LATENCY_S, read_latency_s=LATENCY_S, bytes_per_s=mb_per_s * 1e6)
    _forget_cached(efs)
    megabytes = weights.stat().st_size / 1e6
    began_at = time.monotonic()
    _read(weights)
    sustained = megabytes / (time.monotonic() - began_at)
    _forget_cached(efs)
    shutil.rmtree(folder / "instance", ignore_errors=True)
    with own_server(folder / "instance", MODEL_API_EFS_ROOT=efs.root) as api:
        api.wait_until_ready(within_s=300)
        timeline = api.get("/models/multilingual").json()["versions"][0]["timeline"]
    at = {stage["stage"]: stage["after_s"] for stage in timeline}
    began_at = time.monotonic()
    with own_server(folder / "instance", MODEL_API_EFS_ROOT=efs.root) as api:
        api.wait_until_ready(within_s=300)
        restart_s = time.monotonic() - began_at
    return {
        "megabytes": megabytes,
        "sustained_mb_per_s": sustained,
        "copy_s": at["loading"] - at["copying"],
        "load_s": at["ready"] - at["copying"],
        "restart_s": restart_s,
    }


def _forget_cached(efs: FuseEfs) -> None:
    """Drop what the kernel keeps of the mount, as on an instance that has just booted."""
    efs.unmount()
    efs.mount()


def _read(file: Path) -> None:
    with file.open("rb") as stream, ThreadPoolExecutor(READERS) as pool:
        offsets = range(0, os.fstat(stream.fileno()).st_size, BLOCK_BYTES)
        sum(pool.map(lambda offset: len(os.pread(stream.fileno(), BLOCK_BYTES, offset)), offsets))


def _figures(results: Results, mb_per_s: int) -> dict[str, float | None]:
    names = ("megabytes", "sustained_mb_per_s", "copy_s", "load_s", "restart_s")
    return {name: results.median("in-process", NAME, f"{mb_per_s} MB/s", name) for name in names}


def table_of(results: Results) -> str:
    """Times the bytes divided by the rate, in brackets."""
    rows = []
    for mb_per_s in RATES_MB_PER_S:
        found = _figures(results, mb_per_s)
        if found["megabytes"] is None:
            continue
        ideal_s = found["megabytes"] / mb_per_s
        times = [f"{show(found[name])} ({show(ratio(found[name], ideal_s))}x)" for name in ("copy_s", "load_s")]
        rows.append(
            [f"{mb_per_s} MB/s", show(found["sustained_mb_per_s"]), show(ideal_s), *times, show(found["restart_s"])]
        )
    head = [
        "rate",
        "plain read, MB/s",
        "bytes ÷ rate, s",
        "copied, verified, s",
        "ready, s",
        "restart from the store, s",
    ]
    return table(head, rows)


def targets(results: Results) -> Iterator[Outcome]:
    for mb_per_s in RATES_MB_PER_S:
        found = _figures(results, mb_per_s)
        ideal_s = None if found["megabytes"] is None else found["megabytes"] / mb_per_s
        text = f"cold load at {mb_per_s} MB/s, 3 ms per operation, to ready: at most {LIMIT:g} times bytes ÷ rate"
        yield at_most(text, ratio(found["load_s"], ideal_s), LIMIT, "x")
