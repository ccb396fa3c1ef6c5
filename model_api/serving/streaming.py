"""An answer that is given as it grows: what a lane tells while its forward runs, passed on piece by piece."""

import contextlib
import queue
import time
from collections.abc import Callable, Mapping
from typing import Any

from model_api.errors import CallerLeft, DeadlineExceeded, InvalidInput
from model_api.instance.version import Version
from model_api.serving.answering import answer_of, prepare
from model_api.serving.batching import Batcher
from model_api.serving.calls import Answer, CallContext
from model_api.serving.pending import Outputs, PendingRequest, pending_request

STREAM_S = 900.0  # of an answer that has begun: so long at most, whatever the deadline of a request is


class Stream:
    """An iterator of texts, on one thread; `answer` is there once it ended. Close it in any case: whoever closes it
    early ends the generation."""

    def __init__(
        self, batcher: Batcher, version: Version, request: PendingRequest, prepared: Any, held: contextlib.ExitStack
    ) -> None:
        self._batcher, self._request, self._prepared = batcher, request, prepared
        self.version = version
        self._held = held
        self._first: str | None = ""
        self.answer: Answer | None = None
        self._told: list[Callable[[Answer], None]] = []

    def when_answered(self, tell: Callable[[Answer], None]) -> None:
        """Call `tell` with the whole answer, once there is one."""
        if self.answer is not None:
            tell(self.answer)
        self._told.append(tell)

    def wait_for_the_first(self, deadline: float) -> None:
        """Until something is there. Raises DeadlineExceeded, and what the request failed with."""
        assert self._request.parts is not None
        try:
            self._first = self._request.parts.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self._batcher.give_up(self._request, DeadlineExceeded("no answer within the request's time limit"))
            self._first = None
        if self._first is None:
            self._end()

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> str:
        """Raises ServingError where it fails in its midst."""
        if self._first:
            piece, self._first = self._first, ""
            return piece
        if self._first is None or self.answer is not None:
            raise StopIteration
        assert self._request.parts is not None
        more = self._request.parts.get()  # its deadline ends it, too
        if more is None:
            self._end()
            raise StopIteration
        return more

    def _end(self) -> None:
        outcome = self._request.outcome
        assert outcome is not None
        if not isinstance(outcome, Outputs):
            raise outcome
        web = self.version.web
        assert web is not None
        predictions = web.finish(self._prepared, outcome.arrays)
        self.answer = answer_of(self.version, predictions, self._prepared, outcome)
        for tell in self._told:
            tell(self.answer)

    def close(self) -> None:
        """Any number of times."""
        self._batcher.give_up(self._request, CallerLeft("the client closed its connection"))
        self._held.close()


def open_stream(
    batcher: Batcher,
    version: Version,
    item: Any,
    parameters: Mapping[str, Any],
    context: CallContext,
    held: contextlib.ExitStack,
) -> Stream:
    """See Service.stream; the stream takes what is `held` with it. Raises as that."""
    if version.group is not None and not version.group.interruptible:
        raise InvalidInput(f"{version.name} serves {version.manifest.task}, which gives its answer at once", "/stream")
    group, prepared = prepare(version, [item], parameters, "/inputs", context)
    request = pending_request(
        group,
        prepared.arrays,
        prepared.costs,
        prepared.parameters,
        caller=context.caller,
        deadline=max(context.deadline, time.monotonic() + STREAM_S),
        has_left=context.has_left,
        parts=queue.SimpleQueue(),
    )
    batcher.submit(request)
    stream = Stream(batcher, version, request, prepared, held.pop_all())
    try:
        stream.wait_for_the_first(context.deadline)
    except BaseException:
        stream.close()
        raise
    stream.when_answered(lambda answer: context.guard.spend(version.name, _tokens(answer)))
    return stream


def _tokens(answer: Answer) -> int:
    """Of what was asked and of what was answered."""
    return answer.n_tokens + sum(int(one["tokens"]) for one in answer.predictions)
