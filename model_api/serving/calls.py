"""What passes between the HTTP edge and the service: a call's context, its answer, and the states that are shown.

Plain data, no Flask, no torch. `ModelService` is what the routes need of the service, and all they know of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_api.instance.polling import Mount
from model_api.instance.readiness import Readiness
from model_api.instance.version import Version


class Guard(Protocol):
    """Whether a caller may have what it asks for. Any thread."""

    def admit(self, model: str) -> None:
        """Before anything is done with `model`, a name without a version; "" for what no model does. Raises
        Forbidden or TooManyRequests."""

    def spend(self, model: str, n_tokens: int) -> None:
        """That many were answered for."""


class Unguarded:
    """Everybody may have everything."""

    def admit(self, model: str) -> None: ...
    def spend(self, model: str, n_tokens: int) -> None: ...


UNGUARDED = Unguarded()


@dataclass(frozen=True)
class Origin:
    """What the caller says of a call, for the history: where it comes from, whose text it is, what it is about, and
    what would be right for each input."""

    source: str = "job"
    user: str | None = None
    topic: str | None = None
    caller: str | None = None  # the id of its key
    references: Sequence[Any] | None = None


@dataclass(frozen=True)
class CallContext:
    """Who asks, and until when an answer is of use. Shared with the batcher's threads.

    `deadline` is in seconds of time.monotonic(). `has_left()` never blocks and may be called from any thread.
    `no_cache` asks for a computed answer even where a cached one exists. `size_bytes` is what the request takes, about.
    `guard` is asked by the service, of every model that the request comes to.
    """

    deadline: float
    caller: str
    canary_key: str
    has_left: Callable[[], bool]
    no_cache: bool = False
    size_bytes: int = 0
    guard: Guard = UNGUARDED
    origin: Origin = Origin()

    def admit(self, model: str) -> str:
        """`model` itself, if it may be asked; with or without a version. Raises Forbidden, TooManyRequests."""
        self.guard.admit(model.partition("@")[0])
        return model


@dataclass(frozen=True)
class Answer:
    """One prediction per input, in order, and the exact weights that gave them.

    `predictions` may hold numpy arrays. `truncated` are indices of inputs that were cut, on request, to the model's
    limit; -1 is the target of a similarity. `age_s`: seconds since a cached answer was computed, None if it was just
    now.
    """

    model: str
    version: str
    digest: str
    task: str
    predictions: Sequence[Any]
    n_tokens: int
    truncated: Sequence[int]
    queue_ms: float
    forward_ms: float
    batch_size: int
    precision: str | None = None  # what it was computed in
    min_cosine: float | None = None  # of that precision's answers to float32's, where publishing measured it
    age_s: int | None = None


@dataclass(frozen=True)
class Weights:
    """What would answer a request: the exact weights, and how they'd go about it."""

    model: str
    version: str
    digest: str
    task: str
    repeatable: bool  # asked again with the same parameters, the answer is the same


class ModelService(Protocol):
    """Called on many request threads at once. Raises the RequestErrors and ServingErrors of errors.py."""

    def predict(
        self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext
    ) -> Answer: ...

    def similarity(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer: ...

    def rerank(
        self, query: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer: ...

    def scores(
        self, targets: Sequence[str], predictions: Sequence[str], place: str, context: CallContext
    ) -> list[dict[str, float]]: ...

    def predict_weights(
        self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext
    ) -> Weights: ...

    def similarity_weights(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Weights: ...

    def models(self) -> list[dict[str, Any]]: ...

    def model(self, name: str) -> dict[str, Any]: ...

    def readiness(self) -> Readiness: ...

    def mount(self) -> Mount: ...

    def clear_cache(self, model: str | None) -> int: ...


class GrowingAnswer(Protocol):
    """An iterator of pieces of one prediction's text, on one thread; closed in any case."""

    version: Version
    answer: Answer | None
    """All of it, once it ended."""

    def __iter__(self) -> Iterator[str]: ...
    def __next__(self) -> str: ...
    def close(self) -> None: ...


class StreamingService(Protocol):
    """What the routes need beside ModelService where an answer is sent as it grows."""

    def stream(self, model: str, item: Any, parameters: Mapping[str, Any], context: CallContext) -> GrowingAnswer: ...
