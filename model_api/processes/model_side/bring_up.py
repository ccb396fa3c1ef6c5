"""Bringing one version up, in its leader process: fetch, verify, load, warm, check, probe. Model side only."""

import contextlib
import functools
import gc
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from model_api.errors import ProbeFailed
from model_api.local_store.local_store import LocalStore
from model_api.processes.model_side.checks import PROBE_LIMITS, Runs, compare_to_float32, run_probe, warm
from model_api.processes.model_side.trial import Trial, convert, float32_reference
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.tasks import find_task
from model_api.tasks.contract import Array, ModelSide, Task

PROGRESS_EVERY_S = 1.0


class Report(Protocol):
    def __call__(self, stage: str, **details: Any) -> None: ...


def import_runtime() -> None:
    """Import what every model needs, once, in the fork server. Nothing here may start a thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    import model_api.compute.encoder
    import model_api.tasks.text.embedding  # noqa: F401

    gc.freeze()


def bring_up(spec: LeaderSpec, report: Report) -> ModelSide:
    """The loaded, warmed and checked model. Refused and ProbeFailed are final, LoadFailed and OSError worth a retry."""
    manifest = spec.manifest
    report("copying", total_bytes=manifest.size_bytes)
    folder = LocalStore(Path(spec.local_store), spec.store_budget_bytes).fetch(
        manifest, Path(spec.source), _progress(report), immutable=spec.immutable, protected=spec.protected
    )
    report("loading", folder=str(folder))
    model = load(spec, folder, report)
    # What is here now stays; the lanes share it, and a collection in one of them must not touch (and copy) its pages.
    gc.collect()
    gc.freeze()
    return model


def load(spec: LeaderSpec, folder: Path, report: Report) -> ModelSide:
    """From the verified copy in `folder` to a model that passed its checks."""
    manifest = spec.manifest
    task = find_task(manifest.task)
    precision = str(manifest.options.get("precision", spec.precision))
    if task.needs_conversion(folder, manifest, precision):
        report("converting")
        convert(task, folder, manifest, precision)
    with contextlib.ExitStack() as children:
        checks = _Checks(task, folder, manifest, report, children)
        model = task.load_model(folder, manifest, precision)
        try:
            checks.run(model)
        except ProbeFailed as error:
            if model.precision != "int8" or not task.compares_to_float32:
                raise
            # Less exact than this model's answers must be: what is exact enough serves instead.
            model = task.load_model(folder, manifest, "auto")
            checks.run(model)
            model.precision_reason = f"in int8: {error}"
    return model


class _Checks:
    """What a model must pass; its outputs in float32 come from a child that works while the model loads."""

    def __init__(
        self, task: Task, folder: Path, manifest: Manifest, report: Report, children: contextlib.ExitStack
    ) -> None:
        self._task, self._folder, self._manifest, self._report = task, folder, manifest, report
        self._children = children
        self._reference: Callable[[], list[Array]] | None = None
        if task.compares_to_float32:
            child = children.enter_context(float32_reference(task, folder, manifest))
            self._reference = functools.cache(child.answer)  # it comes once

    def run(self, model: ModelSide) -> None:
        """Warm it, compare it with float32, and run the author's probes. Raises ProbeFailed."""
        task, manifest = self._task, self._manifest
        runs: Runs = model if model.fork_safe else self._children.enter_context(Trial(model))
        self._report("warming")
        model.warm()
        web = task.open_web(self._folder, manifest, PROBE_LIMITS)
        outputs = warm(runs, web, task.warm_inputs, task.warm_parameters)
        if self._reference is not None and model.precision != "float32":
            self._report("checking")
            compare_to_float32(outputs, self._reference(), model.precision, manifest.options)
        if manifest.probes:
            self._report("probing", probes=len(manifest.probes))
            for number, probe in enumerate(manifest.probes):
                run_probe(runs, web, probe, number)


def _progress(report: Report) -> Callable[[int, int], None]:
    """Tells the manager how far the copy is, at most every `PROGRESS_EVERY_S`."""
    last = time.monotonic()

    def progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            report("copying", done_bytes=done_bytes, total_bytes=total_bytes)

    return progress
