"""The bodies of answers: the same whether the caller waited for one or a job gave it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from model_api.errors import InvalidInput
from model_api.serving.calls import Answer
from model_api.serving.text_scores import mean_scores, text_of


def _plain(value: Any) -> Any:
    """orjson takes C-ordered native arrays only; any other becomes lists first."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")


def dump(value: Any) -> bytes:
    """JSON in UTF-8, nothing escaped that needn't be; numpy arrays and scalars become arrays and numbers."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)


def predict_document(found: Answer) -> dict[str, Any]:
    """Of /predict."""
    document: dict[str, Any] = {
        "model": found.model,
        "version": found.version,
        "digest": found.digest,
        "task": found.task,
        "predictions": found.predictions,
        "usage": {"tokens": found.n_tokens},
    }
    if len(found.truncated):
        document["truncated"] = found.truncated
    return document


def similarity_document(
    target: str, texts: Sequence[str], found: Answer, list_truncated: bool = False
) -> dict[str, Any]:
    """Of /sim. Its form is fixed; what was cut (indices into texts, and "target") stands in it only where asked for."""
    context: dict[str, Any] = {"target": target, "texts": texts, "sims": found.predictions}
    if list_truncated:
        context["truncated"] = ["target" if index < 0 else index for index in sorted(found.truncated)]
    return {"type": "sentence similarity", "context": context}


def predicted_texts(found: Answer) -> list[str]:
    """The texts to score. Raises InvalidInput where the model predicts something else."""
    texts = [text_of(prediction) for prediction in found.predictions]
    if None in texts:
        raise InvalidInput(f"{found.model} serves {found.task}, which predicts no texts", "/model")
    return [text for text in texts if text is not None]


def scores_document(items: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Of /score."""
    return {"scores": mean_scores(items), "items": items}


def predicted_scores_document(items: Sequence[Mapping[str, float]], found: Answer) -> dict[str, Any]:
    """Of /score where a model predicted."""
    weights = {"model": found.model, "version": found.version, "digest": found.digest}
    return {**scores_document(items), **weights, "predictions": found.predictions}
