"""What /rerank adds to a prediction: which model answers, and where in its body an error points."""

from typing import Any

import orjson

from model_api.errors import InvalidInput
from model_api.instance.manager import Manager
from model_api.instance.version import Version
from model_api.serving.calls import Answer
from model_api.serving.only_model import only_model

TASK = "reranking"


def reranking_model(manager: Manager) -> str:
    """The model of a body that names none: the only one of the task. Raises InvalidInput or ModelNotReady."""
    return only_model(manager, TASK, "/rerank")


def require_reranking(version: Version) -> None:
    """Raises InvalidInput for a model of another task."""
    if version.manifest.task != TASK:
        raise InvalidInput(f"{version.name} serves {version.manifest.task}, /rerank needs a reranking model", "/model")


def reranking_pointer(pointer: str) -> str:
    """Where /rerank's body has what stands at `pointer` in /predict's."""
    return pointer.removeprefix("/inputs/0")


def rerank_document(found: Answer) -> dict[str, Any]:
    """The body of an answer. A cached prediction is JSON already."""
    (prediction,) = found.predictions
    if isinstance(prediction, orjson.Fragment):
        prediction = orjson.loads(orjson.dumps(prediction))
    document: dict[str, Any] = {
        "model": found.model,
        "version": found.version,
        "digest": found.digest,
        **{key: value for key, value in prediction.items() if value is not None},
        "usage": {"tokens": found.n_tokens},
    }
    if len(found.truncated):
        document["truncated"] = True
    return document
