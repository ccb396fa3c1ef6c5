"""Many inputs, chunk after chunk: several chunks at a time, answers in the order of the inputs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Callable, Union

from model_api_client import _calls
from model_api_client._flows import Flow, Patience, Progress
from model_api_client.errors import ForwardFailed, InvalidInput, Problem

RAISE, RETURN = "raise", "return"
Inputs = Union[Iterable[Any], AsyncIterable[Any]]


@dataclass
class Mapped:
    """One use of `map`: what to ask, and how far it got. One consumer at a time."""

    patience: Patience
    model: str
    parameters: Mapping[str, Any] | None
    chunk_size: int
    at_once: int
    on_error: str
    pin: bool
    progress: Progress | None
    total: int = -1  # unknown
    done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.chunk_size < 1 or self.at_once < 1:
            raise ValueError("chunk_size and at_once must be 1 at least")
        if self.on_error not in (RAISE, RETURN):
            raise ValueError(f"on_error must be {RAISE!r} or {RETURN!r}")

    def chunk(self, start: int, inputs: list[Any]) -> Flow[list[Any]]:
        """Predictions for inputs that are number `start` and so on. In the place of an input that is refused stands its
        error, or it is raised, with the input's number in `index`."""
        found: list[Any] = [None] * len(inputs)
        left = list(range(len(inputs)))
        while left:
            try:
                answer = yield from _calls.predict(
                    self.patience, self.model, [inputs[i] for i in left], self.parameters, False
                )
            except (InvalidInput, ForwardFailed) as error:
                at = _refused(error, len(left))
                if at is None and len(left) > 1 and isinstance(error, ForwardFailed):
                    yield from self._one_by_one(start, inputs, left, found)
                    return found
                if at is None:
                    raise
                index = left.pop(at)
                _number(error, start + index)
                if self.on_error == RAISE:
                    raise
                found[index] = error
                continue
            if self.pin and "@" not in self.model.partition("@canary")[0]:
                self.model = f"{answer.model}@{answer.version}"
            for i, prediction in zip(left, answer.predictions):
                found[i] = prediction
            left = []
        return found

    def _one_by_one(self, start: int, inputs: list[Any], left: list[int], found: list[Any]) -> Flow[None]:
        """The server doesn't say on which input the model failed."""
        for i in left:
            (found[i],) = yield from self.chunk(start + i, [inputs[i]])

    def tell(self, number: int) -> None:
        self.done += number
        if self.progress is not None:
            self.progress(self.done, self.total)


def size_of(inputs: Any) -> int:
    return len(inputs) if isinstance(inputs, Sized) else -1


def run(mapped: Mapped, inputs: Iterable[Any], ask: Callable[[Flow[list[Any]]], list[Any]]) -> Iterator[Any]:
    """On threads of its own; reads no further ahead than it asks. Closed early, it asks no more."""
    source = iter(inputs)
    start = 0

    def next_chunk() -> list[Any]:
        return list(islice(source, mapped.chunk_size))

    waiting: deque[Future[list[Any]]] = deque()
    with ThreadPoolExecutor(mapped.at_once, "model-api-map") as pool:
        try:
            while True:
                # The first chunk goes alone: its answer says which version all others are asked of.
                wanted = mapped.at_once if start or not mapped.pin else 1
                while len(waiting) < wanted and (inputs_of_chunk := next_chunk()):
                    waiting.append(pool.submit(ask, mapped.chunk(start, inputs_of_chunk)))
                    start += len(inputs_of_chunk)
                if not waiting:
                    return
                found = waiting.popleft().result()
                mapped.tell(len(found))
                yield from found
        finally:
            for future in waiting:
                future.cancel()


async def run_async(
    mapped: Mapped, inputs: Inputs, ask: Callable[[Flow[list[Any]]], Awaitable[list[Any]]]
) -> AsyncIterator[Any]:
    """As `run`, with tasks in the place of threads."""
    source = _as_async(inputs)
    start = 0
    waiting: deque[asyncio.Future[list[Any]]] = deque()
    try:
        while True:
            wanted = mapped.at_once if start or not mapped.pin else 1
            while len(waiting) < wanted:
                inputs_of_chunk = await _take(source, mapped.chunk_size)
                if not inputs_of_chunk:
                    break
                waiting.append(asyncio.ensure_future(ask(mapped.chunk(start, inputs_of_chunk))))
                start += len(inputs_of_chunk)
            if not waiting:
                return
            found = await waiting.popleft()
            mapped.tell(len(found))
            for prediction in found:
                yield prediction
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _as_async(inputs: Inputs) -> AsyncIterator[Any]:
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            yield item
    else:
        for item in inputs:
            yield item


async def _take(source: AsyncIterator[Any], number: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < number:
        try:
            taken.append(await source.__anext__())
        except StopAsyncIteration:
            break
    return taken


def _refused(error: Problem, number: int) -> int | None:
    """Which of `number` inputs the error is about; None if it isn't about one."""
    if isinstance(error, ForwardFailed):
        return 0 if number == 1 else None
    for place in error.places:
        parts = place.pointer.split("/")
        if parts[:2] == ["", "inputs"] and len(parts) > 2 and parts[2].isdigit() and int(parts[2]) < number:
            return int(parts[2])
    return None


def _number(error: Problem, index: int) -> None:
    error.index = index
    error.args = (f"input {index}: {error.detail}",)
