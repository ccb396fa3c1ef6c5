"""Task `embedding`: texts to vectors, as sentence-transformers computes them from the model's own files.

Pooling and normalisation come from `modules.json` and what it names; a bare encoder gives its [CLS] vector.
The manifest's options `pooling`, `normalize` and `max_tokens` override them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from model_api.errors import Refused
from model_api.repository.loaded_files import POOLINGS, read_modules, reader_of
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.tokenization import TextTokenizer


def read_pooling(folder: Path, options: Mapping[str, Any]) -> str:
    """Which pooling the model wants: cls, mean, max, mean_sqrt_len_tokens or lasttoken. Raises Refused."""
    modules = read_modules(*reader_of(folder))
    pooling = options.get("pooling", "cls" if modules is None else modules.pooling)
    if pooling not in POOLINGS:
        raise Refused("modules.json", "it has no Pooling module; publish with --option pooling=mean (or cls, ...)")
    return str(pooling)


def read_normalize(folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether vectors have unit length by default. Raises Refused for a module that would change the answer."""
    modules = read_modules(*reader_of(folder))
    return bool(options.get("normalize", modules is not None and modules.normalize))


class EmbeddingOptions(EncoderOptions):
    pooling: Literal["cls", "mean", "max", "mean_sqrt_len_tokens", "lasttoken"] | None = Field(
        None, description="How token vectors become one. Default: what modules.json says; of a bare encoder, cls."
    )
    normalize: bool | None = Field(None, description="Vectors of length 1. Default: what modules.json says.")


class EmbeddingParameters(TextParameters):
    normalize: bool = Field(False, description="Vectors of length 1. Default: what the model's own files say.")


class EmbeddingWeb(WebSide):
    """Web side."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        defaults = {
            "truncate": bool(manifest.options.get("truncate", False)),
            "normalize": read_normalize(folder, manifest.options),
        }
        self._defaults = check_defaults(EmbeddingParameters, defaults)

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(EmbeddingParameters, parameters, self._defaults)
        tokens = self._tokenizer.encode(inputs, pointer, read.truncate)
        costs = [len(ids) for ids in tokens.ids]
        return Prepared(tokens.ids, costs, {}, sum(costs), tokens.truncated, context=read.normalize)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        """One float32 vector [hidden_size] per text."""
        if not prepared.context:
            return list(outputs)
        return list(unit_length(np.stack(outputs))) if outputs else []


def unit_length(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of `vectors` [n, hidden_size] scaled to length 1; a zero row stays zero (the floor is torch's 1e-12)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


class EmbeddingModel(ModelSide):
    """Model side: pooled last hidden states, not normalised."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        self._pooling = read_pooling(folder, manifest.options)
        from model_api.compute.load_encoder import load_encoder

        self._encoder, self.precision_reason = load_encoder(folder, precision)
        self.precision = self._encoder.precision

    def warm(self) -> None:
        self._encoder.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        """`arrays`: token ids [n_tokens] -> float32 vectors [hidden_size]."""
        return list(self._encoder.pooled(arrays, self._pooling))


class Embedding(EncoderTask):
    parameters = EmbeddingParameters
    prediction = list[float]
    options = EmbeddingOptions
    # Several lengths, so that every kind of kernel has run once before the first caller needs it.
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "Weights are published once and served by every instance. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> EmbeddingWeb:
        return EmbeddingWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> EmbeddingModel:
        return EmbeddingModel(folder, manifest, precision)


TASK = Embedding()
