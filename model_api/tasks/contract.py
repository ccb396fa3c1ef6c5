"""What a task is: a class with defaults, of which each task's module makes one object named TASK.

A task has two sides. The **web side** runs in the web process and never imports torch; the **model side** runs in the
version's process group and may, but imports it inside `load_model` only.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy.typing as npt

from model_api.repository.manifest import Manifest
from model_api.tasks.options import Options
from model_api.tasks.parameters import Parameters
from model_api.tasks.text.encoding import Encoder

if TYPE_CHECKING:
    from model_api.compute.encoder_shape import EncoderShape

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What a caller may send, from Settings; how many inputs is checked before a task sees them. `encoder` stands in
    for the model's own tokenizer, where that must not be opened in this process."""

    max_text_chars: int
    encoder: Encoder | None = None


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


class WebSide(ABC):
    """Web process; its methods are called on many request threads at once."""

    @abstractmethod
    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        """Validate and tokenise. Raises InvalidInput with a JSON pointer below `pointer` or /parameters."""

    @abstractmethod
    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        """One JSON-ready prediction per input, in order (numpy arrays count as ready)."""

    def warm_parameters(self) -> Mapping[str, Any]:
        """What this model needs for the built-in inputs, beside the task's own `warm_parameters`."""
        return {}

    def repeatable(self, parameters: Mapping[str, Any]) -> bool:
        """Whether one answer may stand for another of the same request. Parameters aren't checked yet."""
        return True


class Talk:
    """What passes between a forward and the web process while it runs. This one speaks to nobody."""

    def tell(self, text: str, begin: int) -> None:
        """Pass a piece of the answer on to its caller; `begin` is its place in all of it, in characters."""

    def wanted(self) -> Literal["", "others", "nobody"]:
        """Why the lane had better be free: others wait, or nobody waits for this any more; "" for no reason."""
        return ""


class ModelSide(ABC):
    """One lane of a process group; called on its only thread, with torch limited to one thread."""

    precision: str
    """What it computes in: float32, bfloat16, int8."""

    precision_reason: str | None = None
    """Why that isn't what was asked for."""

    fork_safe: bool = True
    """False where its forward starts threads: then it never runs in the leader, which forks the lanes; a child of the
    leader's runs the checks."""

    @abstractmethod
    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        """One output array per row, in order. Must not keep or change `arrays`."""

    def run(self, arrays: Sequence[Array], parameters: Mapping[str, Any], talk: Talk) -> tuple[Sequence[Array], bool]:
        """As `forward` of one row, by a model that can be interrupted (Task.interruptible): its output and True; or
        what it is to be given to go on and False, where `talk` wanted it to leave."""
        return self.forward(arrays, parameters), True

    def warm(self) -> None:  # noqa: B027 - a default: most have nothing to do
        """Called once, in the leader: do what the lanes will then share, so that none of them does it again."""

    def after_fork(self) -> None:  # noqa: B027 - likewise
        """Called once in every process that runs it, before its first forward."""


class Task(ABC):
    """One task. Stateless; used in the web process and in model processes."""

    parameters: ClassVar[type[Parameters]]
    """What callers may send as `parameters`; the OpenAPI document and the try page's form are made from it."""

    prediction: ClassVar[Any] = Any
    """The type of one prediction, for the OpenAPI document: a pydantic model, or what pydantic can describe."""

    options: ClassVar[type[Options]] = Options
    """What a manifest's `options` may be; a load begins by reading them so."""

    warm_inputs: ClassVar[Sequence[Any]]
    """Inputs of several shapes, run before the first caller's; their outputs must be finite."""

    warm_parameters: ClassVar[Mapping[str, Any]] = {}

    long_running: ClassVar[bool] = False
    """Whether a forward takes seconds: then a version has one lane, and a runner of its own in the web process."""

    interruptible: ClassVar[bool] = False
    """Whether its forwards heed their Talk. Then each batch is one row, so that who waits is next after a while, and a
    caller can have the answer as it grows."""

    compares_to_float32: ClassVar[bool] = True
    """Whether bfloat16 and int8 are checked against float32 on the warm inputs."""

    def settle(self, folder: Path) -> None:  # noqa: B027 - an empty default, not a forgotten one
        """Write down beside the verified copy what `open_web` is to read and can't make itself. Runs in a child of the
        leader's, before the web side opens. Raises Refused; OSError."""

    @abstractmethod
    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> WebSide:
        """Read what the web side needs (tokenizer, configs) from the local store. Raises Refused."""

    @abstractmethod
    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> ModelSide:
        """Load the weights from the local store. Raises Refused or LoadFailed."""

    def convert(self, folder: Path, manifest: Manifest, precision: str) -> None:  # noqa: B027 - likewise
        """Make what must lie beside the weights before `load_model`. Runs in a child of the leader's, so that its
        memory returns, and only where `needs_conversion`. Raises Refused or LoadFailed."""

    def needs_conversion(self, folder: Path, manifest: Manifest, precision: str) -> bool:
        """Whether `convert` has work to do."""
        return False

    def shape(self, folder: Path, manifest: Manifest, precision: str) -> "EncoderShape | None":
        """What `ModelSide.warm` depends on, where models of one shape can share what it makes. Model side; raises
        Refused or ValueError."""
        return None

    def loading_bytes(self, folder: Path, manifest: Manifest, precision: str) -> int:
        """The estimated peak of a load, in the web process, before `folder` is there."""
        return manifest.memory_bytes
