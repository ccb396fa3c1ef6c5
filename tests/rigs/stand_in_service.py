"""A small, deterministic service for tests of the HTTP edge: its "similarity" is the share of common letters.

It keeps the promises that the edge relies on (an answer per input, errors of errors.py) and records its calls.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from flask_openapi3 import OpenAPI

from model_api.app import build_app
from model_api.errors import InvalidInput, UnknownModel, VersionNotLoaded
from model_api.instance.polling import Mount
from model_api.instance.readiness import Readiness
from model_api.serving.calls import Answer, CallContext, Weights
from model_api.serving.text_scores import score_pair
from model_api.settings import Settings

DIGEST = hashlib.sha256(b"stand-in").hexdigest()


def share(a: str, b: str) -> float:
    """The share of letters that two texts have in common."""
    return len(set(a) & set(b)) / len(set(a) | set(b))


class StandInService:
    """One model, `minilm`, version 1. `fail_with` is raised by the next calls; `ready` and `seen` can be set."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, CallContext]] = []
        self.fail_with: Exception | None = None
        self.ready = True
        self.repeatable = True
        self.seen = Mount(True, "/efs answered in 1 ms", 0.5)
        self.truncated: Sequence[int] = ()
        self.age_s: int | None = None
        self.cleared: list[str | None] = []

    def predict(self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext) -> Answer:
        self._enter("predict", model, parameters, context)
        for index, text in enumerate(inputs):
            if not isinstance(text, str) or not text:
                raise InvalidInput("must be a text that isn't empty", f"/inputs/{index}")
        vectors = [np.array([len(text), len(set(text))], np.float32) for text in inputs]
        return self._answer(vectors, sum(map(len, inputs)))

    def similarity(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        self._enter("similarity", model or "minilm", parameters, context)
        if not target:
            raise InvalidInput("must not be empty", "/target")
        for index, text in enumerate(texts):
            if not text:
                raise InvalidInput("must not be empty", f"/texts/{index}")
        return self._answer([share(target, text) for text in texts], len(target) + sum(map(len, texts)))

    def rerank(
        self, query: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Answer:
        self._enter("rerank", model or "minilm", parameters, context)
        for pointer, text in [("/query", query), *((f"/texts/{i}", text) for i, text in enumerate(texts))]:
            if not text:
                raise InvalidInput("must not be empty", pointer)
        scores = [share(query, text) for text in texts]
        return self._answer([{"scores": scores}], len(query) + sum(map(len, texts)))

    def scores(
        self, targets: Sequence[str], predictions: Sequence[str], place: str, context: CallContext
    ) -> list[dict[str, float]]:
        return [score_pair(*pair) for pair in zip(targets, predictions, strict=True)]

    def predict_weights(
        self, model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], context: CallContext
    ) -> Weights:
        found = StandInService.predict(self, model, inputs, parameters, context)
        self.calls.pop()
        return Weights(found.model, found.version, found.digest, found.task, self.repeatable)

    def similarity_weights(
        self, target: str, texts: Sequence[str], model: str | None, parameters: Mapping[str, Any], context: CallContext
    ) -> Weights:
        found = StandInService.similarity(self, target, texts, model, parameters, context)
        self.calls.pop()
        return Weights(found.model, found.version, found.digest, found.task, self.repeatable)

    def clear_cache(self, model: str | None) -> int:
        self.cleared.append(model)
        return 2

    def models(self) -> list[dict[str, Any]]:
        return [
            {
                "name": "minilm",
                "task": "embedding",
                "version": "1",
                "digest": DIGEST,
                "state": "serving",
                "precision": "float32",
                "precision_reason": None,
                "accuracy": None,
                "memory_bytes": 1000,
                "previous": None,
                "canary": None,
                "refused": [],
            }
        ]

    def model(self, name: str) -> dict[str, Any]:
        if name != "minilm":
            raise UnknownModel(name)
        return {**self.models()[0], "versions": [{"version": "1", "digest": DIGEST, "state": "serving"}]}

    def readiness(self) -> Readiness:
        return Readiness(self.ready, {"minilm": "serving 1" if self.ready else "loading 1"}, draining=False)

    def mount(self) -> Mount:
        return self.seen

    def _enter(self, kind: str, model: str, parameters: Mapping[str, Any], context: CallContext) -> None:
        context.admit(model)  # as the service does, first of all
        self.calls.append((kind, context))
        if self.fail_with is not None:
            raise self.fail_with
        name, _, version = model.partition("@")
        if name != "minilm":
            raise UnknownModel(name)
        if version not in ("", "1"):
            raise VersionNotLoaded(name, version)
        for key in parameters:
            if key != "truncate":
                raise InvalidInput(f"unknown parameter {key!r}", "/parameters")

    def _answer(self, predictions: Sequence[Any], n_tokens: int) -> Answer:
        return Answer(
            model="minilm",
            version="1",
            digest=DIGEST,
            task="embedding",
            predictions=list(predictions),
            n_tokens=n_tokens,
            truncated=self.truncated,
            queue_ms=0.25,
            forward_ms=1.5,
            batch_size=len(predictions),
            precision="float32",
            age_s=self.age_s,
        )


def stand_in_app(**settings: Any) -> tuple[OpenAPI, StandInService]:
    """The real app over a fresh stand-in; `settings` are fields of Settings."""
    service = StandInService()
    return build_app(service, Settings(**settings)), service
