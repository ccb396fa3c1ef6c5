"""Bringing one version up, in its leader process: fetch, verify, load, warm, check, probe. Model side only."""

import contextlib
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from model_api.errors import ModelApiError, ProbeFailed, Refused, RequestError, ServingError
from model_api.local_store.local_store import LocalStore
from model_api.processes.model_side.checks import (
    PROBE_LIMITS,
    Runs,
    compare_to_float32,
    measured_too_far,
    run_probe,
    warm,
)
from model_api.processes.model_side.shared_code import return_memory
from model_api.processes.model_side.trial import Trial, convert, float32_reference, why_encoded_elsewhere
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.repository.signatures import signer
from model_api.tasks import find_task
from model_api.tasks.contract import Array, ModelSide, Prepared, Task
from model_api.tasks.options import read_options
from model_api.tasks.text.chat_template import has_template
from model_api.tasks.text.encoding import Encoder, LocalEncoder

if TYPE_CHECKING:
    from model_api.compute.encoder_shape import EncoderShape

PROGRESS_EVERY_S = 1.0


class Report(Protocol):
    def __call__(self, stage: str, **details: Any) -> None: ...


def import_runtime() -> None:
    """Import what every model needs, once, in the fork server. Nothing here may start a thread."""
    import torch

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    import model_api.compute.load_encoder
    import model_api.tasks.text.embedding  # noqa: F401
    from model_api.compute.linear import prepacking_works

    for dtype in (torch.float32, torch.bfloat16):
        prepacking_works(dtype)  # each leader would try it anew

    gc.freeze()


@dataclass(frozen=True)
class Loaded:
    """A model that passed its checks, and what shows later that it is still the same. `encoder` is its tokenizer, where
    that is to run in a process of its own."""

    model: ModelSide
    folder: Path
    encoder: Encoder | None
    trial_arrays: Sequence[Array]
    trial_parameters: Mapping[str, Any]
    trial_outputs: Sequence[Array]


def fetch(spec: LeaderSpec, report: Report, *, again: bool) -> Path:
    """The folder with the verified copy; `again`: an earlier leader of this load has verified it a moment ago. Raises
    as LocalStore.fetch."""
    manifest = spec.manifest
    if spec.trusted_signers is not None:
        report("signed", by=signer(manifest, Path(spec.trusted_signers)))
    store = LocalStore(Path(spec.local_store), spec.store_budget_bytes)
    folder = store.folder(manifest.digest)
    if again and folder.is_dir():
        return folder
    report("copying", total_bytes=manifest.size_bytes)
    source = Path(spec.source)
    return store.fetch(manifest, source, _progress(report), immutable=spec.immutable, protected=spec.protected)


def shape_of(spec: LeaderSpec, folder: Path) -> "EncoderShape | None":
    """What of the model's warming may be shared; None for nothing, also where its files are wrong: the load will say
    how."""
    try:
        task, precision = find_task(spec.manifest.task), spec.manifest.options.get("precision", spec.precision)
        return task.shape(folder, spec.manifest, str(precision))
    except (ModelApiError, ValueError, OSError):
        return None


def bring_up(spec: LeaderSpec, folder: Path, report: Report) -> Loaded:
    """The loaded, warmed and checked model. Refused and ProbeFailed are final, LoadFailed and OSError worth a retry."""
    loaded = load_copy(spec, folder, report)
    # What is here now stays; the lanes share it, and a collection in one of them must not touch (and copy) its pages.
    gc.collect()
    gc.freeze()
    return_memory()
    return loaded


def load_copy(spec: LeaderSpec, folder: Path, report: Report) -> Loaded:
    """Everything between the verified copy in `folder` and the lanes; an author's check does the same. Raises as
    `bring_up`."""
    with _content_decides():
        why_elsewhere = why_encoded_elsewhere(find_task(spec.manifest.task), folder)
        report("loading", folder=str(folder), encoded_elsewhere=why_elsewhere)
        return load(spec, folder, report, encodes_elsewhere=bool(why_elsewhere))


@contextlib.contextmanager
def _content_decides() -> Iterator[None]:
    """The copy is verified and local: what goes wrong now goes wrong again, unless it is the system that says no."""
    try:
        yield
    except ModelApiError as error:
        if isinstance(error, RequestError | ServingError):  # about the built-in texts, or the author's probes
            cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ else ""
            raise ProbeFailed(f"on a built-in text or a probe: {error}{cause}") from error
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise Refused("", f"can't be loaded ({error})") from error
    except BaseException as error:  # a panic of a native library is no Exception
        raise Refused("", f"can't be loaded ({type(error).__name__}: {error})") from error


def load(spec: LeaderSpec, folder: Path, report: Report, *, encodes_elsewhere: bool = False) -> Loaded:
    """From the verified copy in `folder` to a model that passed its checks."""
    manifest = spec.manifest
    task = find_task(manifest.task)
    read_options(task.options, manifest.options)
    precision = str(manifest.options.get("precision", spec.precision))
    encoder = LocalEncoder(folder, renders=has_template(folder)) if encodes_elsewhere else None
    if task.needs_conversion(folder, manifest, precision):
        report("converting")
        convert(task, folder, manifest, precision)
    with contextlib.ExitStack() as children:
        checks = _Checks(task, folder, manifest, report, encoder, children)
        too_far = measured_too_far(manifest) if precision == "int8" else ""
        model = task.load_model(folder, manifest, "auto" if too_far else precision)
        if too_far:
            model.precision_reason = too_far
        try:
            prepared, outputs = checks.run(model)
        except ProbeFailed as error:
            if model.precision != "int8" or not task.compares_to_float32:
                raise
            # Less exact than this model's answers must be: what is exact enough serves instead.
            model = task.load_model(folder, manifest, "auto")
            prepared, outputs = checks.run(model)
            model.precision_reason = f"in int8: {error}"
    return Loaded(model, folder, encoder, prepared.arrays, prepared.parameters, outputs)


class _Checks:
    """What a model must pass; its outputs in float32 come from a child that works while the model loads."""

    def __init__(
        self,
        task: Task,
        folder: Path,
        manifest: Manifest,
        report: Report,
        encoder: Encoder | None,
        children: contextlib.ExitStack,
    ) -> None:
        self._task, self._folder, self._manifest, self._report = task, folder, manifest, report
        self._limits = replace(PROBE_LIMITS, encoder=encoder)
        self._children = children
        self._reference: Callable[[], list[Array]] | None = None
        if task.compares_to_float32:
            child = children.enter_context(float32_reference(task, folder, manifest, self._limits))
            self._reference = functools.cache(child.answer)  # it comes once

    def run(self, model: ModelSide) -> tuple[Prepared, list[Array]]:
        """Warm it, compare it with float32, and run the author's probes; the built-in inputs with their outputs. Raises
        ProbeFailed."""
        task, manifest = self._task, self._manifest
        runs: Runs = model if model.fork_safe else self._children.enter_context(Trial(model))
        self._report("warming")
        model.warm()
        web = task.open_web(self._folder, manifest, self._limits)
        prepared = web.prepare(task.warm_inputs, {**task.warm_parameters, **web.warm_parameters()})
        outputs = warm(runs, prepared)
        if self._reference is not None and model.precision != "float32":
            self._report("checking")
            compare_to_float32(outputs, self._reference(), model.precision, manifest.options)
        if manifest.probes:
            self._report("probing", probes=len(manifest.probes))
            for number, probe in enumerate(manifest.probes):
                run_probe(runs, web, probe, number)
        return prepared, outputs


def _progress(report: Report) -> Callable[[int, int], None]:
    """Tells the manager how far the copy is, at most every `PROGRESS_EVERY_S`."""
    last = time.monotonic()

    def progress(done_bytes: int, total_bytes: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_EVERY_S:
            last = time.monotonic()
            report("copying", done_bytes=done_bytes, total_bytes=total_bytes)

    return progress
