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
}


@dataclass(frozen=True)
class Limits:
    """What a caller may send; from Settings."""

    max_inputs: int
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
    """Web process; its methods are called on many request threads at once."""

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        """Validate and tokenise. Raises InvalidInput with a JSON pointer below `pointer` or /parameters."""

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        """One JSON-ready prediction per input, in order (numpy arrays count as ready)."""


class ModelSide(Protocol):
    """One lane of a process group; called on its only thread, with torch limited to one thread."""

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        """One output array per row, in order. Must not keep or change `arrays`."""

    @property
    def precision(self) -> str:
        """What it computes in: float32, bfloat16, int8."""


class TaskModule(Protocol):
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
