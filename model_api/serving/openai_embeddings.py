"""OpenAI's embeddings: its body, and its answer. The same for a request and for a line of a batch."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_api.errors import InvalidInput
from model_api.serving.calls import Answer

ENDPOINT = "/v1/embeddings"
TASK = "embedding"
FORMATS = ("float", "base64")
# OpenAI's vectors have length 1, and its callers take dot products for cosines.
PARAMETERS: Mapping[str, Any] = {"normalize": True}
_FIELDS = frozenset({"input", "model", "encoding_format", "dimensions", "user"})


@dataclass(frozen=True)
class EmbeddingsCall:
    """One body, checked."""

    model: str
    inputs: list[str]
    encoding_format: str
    dimensions: int | None

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "EmbeddingsCall":
        """Raises InvalidInput that points at the field."""
        if unknown := sorted(body.keys() - _FIELDS):
            raise InvalidInput(f"unknown field {unknown[0]!r}", f"/{unknown[0]}")
        model, encoding_format, dimensions = body.get("model"), body.get("encoding_format"), body.get("dimensions")
        if not isinstance(model, str) or not model:
            raise InvalidInput("must name a model", "/model")
        if encoding_format not in (None, *FORMATS):
            raise InvalidInput(f"must be {' or '.join(FORMATS)}", "/encoding_format")
        if dimensions is not None and (isinstance(dimensions, bool) or not isinstance(dimensions, int)):
            raise InvalidInput("must be a whole number", "/dimensions")
        return cls(model, _texts(body.get("input")), encoding_format or "float", dimensions)

    def document(self, found: Answer) -> dict[str, Any]:
        """The answer; vectors are float32. Raises InvalidInput where another size was asked for than the model has."""
        vectors = [np.asarray(vector, np.float32) for vector in found.predictions]
        if self.dimensions is not None and vectors and len(vectors[0]) != self.dimensions:
            # Cutting vectors of a model that wasn't trained for it would silently spoil them.
            raise InvalidInput(f"{found.model} gives {len(vectors[0])} dimensions, and can't be cut", "/dimensions")
        shown = [_base64(vector) for vector in vectors] if self.encoding_format == "base64" else vectors
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(shown)],
            "model": self.model,
            "usage": {"prompt_tokens": found.n_tokens, "total_tokens": found.n_tokens},
        }


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise InvalidInput("must be a text, or a list of one text at least", "/input")
    tokens = [item for item in value if isinstance(item, int | list) and not isinstance(item, bool)]
    if tokens:
        # They'd be numbers of another vocabulary than the model's: served, the answer would be nonsense.
        raise InvalidInput("holds token ids, which mean something else to each model: send texts", "/input")
    for i, item in enumerate(value):
        if not isinstance(item, str):
            raise InvalidInput("must be a text", f"/input/{i}")
    return value


def _base64(vector: Any) -> str:
    """Little-endian float32, as OpenAI's client reads it."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
