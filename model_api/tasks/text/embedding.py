"""Task `embedding`: texts to vectors, as sentence-transformers computes them from the model's own files.

Pooling comes from `1_Pooling/config.json`, normalisation from `modules.json`; a bare encoder gives its [CLS] vector.
The manifest's options `pooling`, `normalize` and `max_tokens` override them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from model_api.errors import Refused
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, Task, WebSide
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters
from model_api.tasks.text.tokenization import TextTokenizer, read_json

_MODULE_KINDS = {"Transformer", "Pooling", "Normalize"}
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_pooling(folder: Path, options: Mapping[str, Any]) -> str:
    """Which pooling the model wants: cls, mean, max, mean_sqrt_len_tokens or lasttoken. Raises Refused."""
    if "pooling" in options:
        pooling = str(options["pooling"])
    else:
        config = read_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
        modes = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)]
        if not modes and "pooling_mode" in config:
            modes = [str(config["pooling_mode"])]
        if len(modes) != 1:
            raise Refused("1_Pooling/config.json", f"exactly one pooling mode is served, this asks for {modes}")
        pooling = modes[0]
    if pooling not in _POOLING_FLAGS.values():
        raise Refused("1_Pooling/config.json", f"unknown pooling {pooling!r}")
    return pooling


def read_normalize(folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether vectors have unit length by default. Raises Refused for a module that would change the answer."""
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in read_json(folder / "modules.json", [])]
    unknown = [kind for kind in kinds if kind not in _MODULE_KINDS]
    if unknown:
        raise Refused("modules.json", f"modules {', '.join(unknown)} are not served")
    return bool(options.get("normalize", "Normalize" in kinds))


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


class Embedding(Task):
    parameters = EmbeddingParameters
    prediction = list[float]
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
