"""Bringing one version up, in its leader process: fetch, verify, load, warm, check, probe. Model side only."""

import contextlib
import gc
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from model_api import messages
from model_api.errors import LoadFailed, ProbeFailed
from model_api.local_store import LocalStore
from model_api.manifest import Manifest, Probe
from model_api.tasks import Array, Limits, ModelSide, TaskModule, WebSide, task_module

MIN_COSINE_TO_FLOAT32 = 0.995  # bfloat16 rounding stays above 0.999; a broken kernel is far below
PROGRESS_EVERY_S = 1.0
# An author's probes aren't callers: they may be as long as the model takes.
_PROBE_LIMITS = Limits(max_text_chars=10_000_000)


class Report(Protocol):
    def __call__(self, stage: str, **details: Any) -> None: ...


def import_runtime() -> None:
    """Import what every model needs, once, in the fork server. Nothing here may start a thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    import model_api.encoder
    import model_api.tasks.embedding  # noqa: F401

    gc.freeze()


def bring_up(spec: Mapping[str, Any], report: Report) -> ModelSide:
    """The loaded, warmed and checked model. Refused and ProbeFailed are final, LoadFailed and OSError worth a retry."""
    manifest = Manifest.from_json(spec["manifest"])
    report("copying", total_bytes=manifest.size_bytes)
    folder = LocalStore(Path(spec["local_store"]), spec["store_budget_bytes"]).fetch(
        manifest,
        Path(spec["source"]),
        _progress(report),
        immutable=spec["immutable"],
        protected=spec["protected"],
    )
    report("loading", folder=str(folder))
    module = task_module(manifest.task)
    precision = str(manifest.options.get("precision", spec["precision"]))
    compares = getattr(module, "COMPARES_TO_FLOAT32", True)
    with _Reference(module, folder, manifest) if compares else contextlib.nullcontext() as reference:
        model = module.load_model(folder, manifest, precision)
        report("warming")
        model.warm()
        web = module.open_web(folder, manifest, _PROBE_LIMITS)
        outputs = warm(model, web, module.WARM_INPUTS)
        if reference is not None and model.precision == "bfloat16":
            report("checking")
            compare_to_float32(outputs, reference.outputs())
    if manifest.probes:
        report("probing", probes=len(manifest.probes))
        for number, probe in enumerate(manifest.probes):
            run_probe(model, web, probe, number)
    if before_lanes := getattr(model, "before_lanes", None):
        before_lanes()
    # What is here now stays; the lanes share it, and a collection in one of them must not touch (and copy) its pages.
    gc.collect()
    gc.freeze()
    return model


def _progress(report: Report) -> Callable[[int, int], None]:
    """Tells the manager how far the copy is, at most every `PROGRESS_EVERY_S`."""
    last = time.monotonic()

    def progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            report("copying", done_bytes=done_bytes, total_bytes=total_bytes)

    return progress


def warm(model: ModelSide, web: WebSide, inputs: Sequence[Any]) -> list[Array]:
    """Run built-in inputs one by one and all at once; the outputs of the latter, all finite. Raises ProbeFailed."""
    parameters = {"truncate": True} if inputs and isinstance(inputs[0], str) else {}
    prepared = web.prepare(inputs, parameters)
    for array in prepared.arrays:
        model.forward([array], prepared.parameters)
    outputs = list(model.forward(prepared.arrays, prepared.parameters))
    for output in outputs:
        if not np.isfinite(output).all():
            raise ProbeFailed("the model gives NaN or infinity on a built-in text")
    return outputs


def compare_to_float32(outputs: Sequence[Array], reference: Sequence[Array]) -> None:
    """Raises ProbeFailed unless every row points where the float32 row points."""
    worst = min(cosine(a, b) for a, b in zip(outputs, reference, strict=True))
    if not worst >= MIN_COSINE_TO_FLOAT32:
        raise ProbeFailed(
            f"bfloat16 differs from float32 (cosine {worst:.4f}); publish with --option precision=float32"
        )


def cosine(a: Array, b: Array) -> float:
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else float(np.array_equal(a, b))


def run_probe(model: ModelSide, web: WebSide, probe: Probe, number: int) -> None:
    """Raises ProbeFailed if a prediction isn't what the author saw, naming the probe and the place."""
    prepared = web.prepare(probe.inputs, probe.parameters)
    predictions = web.finish(prepared, list(model.forward(prepared.arrays, prepared.parameters)))
    for index, (got, wanted) in enumerate(zip(predictions, probe.outputs, strict=True)):
        difference = first_difference(got, wanted, probe.tolerance)
        if difference:
            raise ProbeFailed(f"probe {number}, input {index}: {difference}")


def first_difference(got: Any, wanted: Any, tolerance: float, place: str = "output") -> str | None:
    """Where two JSON-like values differ, numbers by more than `tolerance`; None if they agree."""
    if isinstance(got, np.ndarray):
        got = got.tolist()
    if isinstance(got, bool) or isinstance(wanted, bool) or not isinstance(got, int | float):
        if isinstance(got, Mapping) and isinstance(wanted, Mapping) and got.keys() == wanted.keys():
            pairs = [(f"{place}.{key}", got[key], wanted[key]) for key in wanted]
        elif isinstance(got, list) and isinstance(wanted, list) and len(got) == len(wanted):
            pairs = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(got, wanted, strict=True))]
        else:
            same = type(got) is type(wanted) and got == wanted
            return None if same else f"{place} differs from what the author saw"
        return next((d for where, a, b in pairs if (d := first_difference(a, b, tolerance, where))), None)
    if isinstance(wanted, int | float) and abs(got - wanted) <= tolerance:
        return None
    return f"{place} is {got:.6g}, the author saw {wanted}"


class _Reference:
    """The built-in inputs' outputs in float32, from a child of its own that works while we load, then is gone."""

    def __init__(self, module: TaskModule, folder: Path, manifest: Manifest) -> None:
        self._run: Callable[[socket.socket], None] = lambda connection: _send_reference(
            connection, module, folder, manifest
        )

    def __enter__(self) -> "_Reference":
        from model_api.forking import fork_child

        self._ours, theirs = socket.socketpair()
        with theirs:
            self._pid = fork_child(lambda: self._run(theirs))
        return self

    def outputs(self) -> list[Array]:
        try:
            return messages.receive(self._ours)[1]
        except OSError as error:
            raise LoadFailed("the float32 comparison ended without an answer (out of memory?)") from error

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)


def _send_reference(connection: socket.socket, module: TaskModule, folder: Path, manifest: Manifest) -> None:
    model = module.load_model(folder, manifest, "float32")
    web = module.open_web(folder, manifest, _PROBE_LIMITS)
    prepared = web.prepare(module.WARM_INPUTS, {"truncate": True})
    messages.send(connection, {}, list(model.forward(prepared.arrays, prepared.parameters)))
