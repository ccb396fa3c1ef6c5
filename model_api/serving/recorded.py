"""A service that notes in the history what it answers. Used only where predictions are kept."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from model_api.errors import InvalidInput
from model_api.history.entries import Entry
from model_api.history.keeping import Score
from model_api.history.recording import Recorder
from model_api.serving.calls import Answer, CallContext
from model_api.serving.service import Service
from model_api.serving.streaming import Stream

SCORING = "scoring"  # the task of rows that /score gave, whose predictions somebody else made
HISTORY = "history"  # a caller that is the history itself
_PREDICTION_BYTES = 256  # of one that isn't an array, about


def pair_scorer(service: Service, timeout_s: float) -> Score:
    """What scores the history's pairs, in the service's queue like everybody's."""

    def scores(pairs: Sequence[tuple[str, str]]) -> Sequence[dict[str, float] | None]:
        targets, predictions = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        context = CallContext(time.monotonic() + timeout_s, HISTORY, HISTORY, lambda: False)
        try:
            return service.scores(targets, predictions, "/pairs", context)
        except InvalidInput:
            # One of them is too long, or all of them together: one by one, then.
            return [None] if len(pairs) == 1 else [one for pair in pairs for one in scores([pair])]

    return scores


class RecordedService(Service):
    """Noting takes a few microseconds, and can neither wait nor fail."""

    recorder: Recorder

    def predict(self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext) -> Answer:
        answer = super().predict(model, inputs, parameters, context)
        self._note(answer, inputs, answer.predictions, context)
        return answer

    def stream(self, model: str, item: Any, parameters: Mapping[str, Any], context: CallContext) -> Stream:
        stream = super().stream(model, item, parameters, context)
        stream.when_answered(lambda answer: self._note(answer, [item], answer.predictions, context))
        return stream

    def similarity(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        answer = super().similarity(target, texts, model, parameters, context)
        self._note(answer, [{"target": target, "texts": texts}], [{"sims": answer.predictions}], context)
        return answer

    def scores(
        self, targets: Sequence[str], predictions: Sequence[str], place: str, context: CallContext
    ) -> list[dict[str, float]]:
        found = super().scores(targets, predictions, place, context)
        if place == "/predictions":  # else a model predicted them, which noted them, or the history asks itself
            self.recorder.note(
                Entry(
                    created_ms=time.time_ns() // 1_000_000,
                    source=context.origin.source,
                    model="",
                    version=None,
                    digest=None,
                    task=SCORING,
                    inputs=[None] * len(predictions),
                    predictions=predictions,
                    size_bytes=context.size_bytes,
                    user=context.origin.user,
                    topic=context.origin.topic,
                    caller=context.origin.caller,
                    references=targets,
                    scores=found,
                )
            )
        return found

    def _note(self, answer: Answer, inputs: Sequence[Any], predictions: Sequence[Any], context: CallContext) -> None:
        origin = context.origin
        each = max(getattr(predictions[0], "nbytes", 0), _PREDICTION_BYTES) if len(predictions) else 0
        self.recorder.note(
            Entry(
                created_ms=time.time_ns() // 1_000_000,
                source=origin.source,
                model=answer.model,
                version=answer.version,
                digest=answer.digest,
                task=answer.task,
                inputs=inputs,
                predictions=predictions,
                size_bytes=context.size_bytes + each * len(predictions),
                user=origin.user,
                topic=origin.topic,
                caller=origin.caller,
                references=origin.references,
                latency_ms=answer.queue_ms + answer.forward_ms,
                cached=answer.age_s is not None,
            )
        )
