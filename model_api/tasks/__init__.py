"""What a model can be asked to do: one module per task, found by the manifest's `task`.

A task's module has two sides. The **web side** (`Prepare`) runs in the web process and never imports torch; the
**model side** (`Forward`) runs in the version's process group and may. A module gives `open_web(folder, manifest,
limits)` and `load_model(folder, manifest, precision)`; torch is imported inside the latter only.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy.typing as npt

from model_api.errors import Refused
from model_api.manifest import Manifest

Array = npt.NDArray[Any]

MODULES: Mapping[str, str] = {
    "embedding": "model_api.tasks.embedding",
    "extractive-summarization": "model_api.tasks.extractive_summarization",
    "summarization": "model_api.tasks.summarization",
    "text-classification": "model_api.tasks.text_classification",
}


@dataclass(frozen=True)
class Limits:
    """What a caller may send, from Settings; how many inputs is checked before a task sees them."""

    max_text_chars: int


@dataclass(frozen=True)
class Prepared:
    """A request made ready for the lanes.

    `arrays` are what the forward sees, one per row, and `costs` their sizes in tokens. A row needn't be an input (a
    long text may become several windows); `context` is whatever `finish` needs to put them together again.
    `parameters` is what the forward must know; rows of two requests share a batch only where it is equal.
    """

    arrays: Sequence[Array]
    costs: Sequence[int]
    parameters: Mapping[str, Any]
    n_tokens: int
    truncated: Sequence[int] = ()
    context: Any = None


class WebSide(Protocol):
    """Web process; its methods are called on many request threads at once.

    One may also have `repeatable(parameters) -> bool`: False where the same request may give another answer.
    """

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        """Validate and tokenise. Raises InvalidInput with a JSON pointer below `pointer` or /parameters."""

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        """One JSON-ready prediction per input, in order (numpy arrays count as ready)."""


class ModelSide(Protocol):
    """One lane of a process group; called on its only thread, with torch limited to one thread."""

    # A model may also have `before_lanes()`, called in the leader when its checks are done, and `after_fork()`, called
    # once in every lane.

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        """One output array per row, in order. Must not keep or change `arrays`."""

    def warm(self) -> None:
        """Called once, in the leader: do what the lanes will then share, so that none of them does it again."""

    @property
    def precision(self) -> str:
        """What it computes in: float32, bfloat16, int8."""


class TaskModule(Protocol):
    """More names are read where a module has them: LONG_RUNNING = True (a forward takes seconds: one lane per version,
    a runner of its own), COMPARES_TO_FLOAT32 = False (its bfloat16 isn't checked against float32) and
    `loading_bytes(folder, manifest, precision)` (the peak of a load, where the local store makes it less than the
    manifest's; called in the web process before the load, so `folder` may not be there yet)."""

    WARM_INPUTS: Sequence[Any]
    """Inputs of several shapes, run before the first caller's; their outputs must be finite."""

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> WebSide:
        """Read what the web side needs (tokenizer, configs) from the local store. Raises Refused."""

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> ModelSide:
        """Load the weights from the local store. Raises Refused or LoadFailed."""


def task_module(task: str) -> TaskModule:
    """The module of `task`. Raises Refused for a task that this release doesn't know."""
    if task not in MODULES:
        raise Refused("manifest.json", f"unknown task {task!r}; this release knows {', '.join(sorted(MODULES))}")
    return cast(TaskModule, importlib.import_module(MODULES[task]))


def is_long_running(task: str) -> bool:
    """Whether a forward of this task takes seconds. False for an unknown task."""
    return task in MODULES and bool(getattr(task_module(task), "LONG_RUNNING", False))


def loading_bytes(folder: Path, manifest: Manifest, precision: str) -> int:
    """The estimated peak of loading `manifest`, whose copy lies, or will, in `folder`."""
    ask = getattr(task_module(manifest.task), "loading_bytes", None) if manifest.task in MODULES else None
    return int(ask(folder, manifest, precision)) if ask else manifest.memory_bytes


def repeatable(web: WebSide | None, parameters: Mapping[str, Any]) -> bool:
    """Whether one answer may stand for another of the same request. Parameters aren't checked yet."""
    ask = getattr(web, "repeatable", None)
    return ask is None or bool(ask(parameters))
