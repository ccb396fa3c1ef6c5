"""Task `feature-extraction`: a vector for every token of a text, special ones included, as transformers' pipeline gives
them.

A prediction is [tokens, dimensions]: the encoder's last states. The task `embedding` makes one vector of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from model_api.errors import InvalidInput, Refused
from model_api.repository.loaded_files import reader_of
from model_api.repository.manifest import Manifest
from model_api.repository.sentence_modules import read_modules
from model_api.tasks.contract import Array, Limits, ModelSide, Prepared, WebSide
from model_api.tasks.options import EncoderOptions
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters
from model_api.tasks.text.encoder_task import EncoderTask
from model_api.tasks.text.tokenization import TextTokenizer, read_json

MAX_NUMBERS = 4_000_000  # of one answer: some 40 MB of JSON
_SIZES = ("hidden_size", "dim", "d_model", "n_embd")


def transformer_root(folder: Path) -> Path:
    """Where the transformer lies. Raises Refused for a model that computes no states of tokens."""
    modules = read_modules(*reader_of(folder))
    if modules is not None and modules.static:
        raise Refused("modules.json", "a StaticEmbedding: its tokens have no states; --task embedding serves it")
    return folder / modules.transformer if modules else folder


class FeaturesWeb(WebSide):
    """Web side. A row is a text."""

    def __init__(self, folder: Path, manifest: Manifest, limits: Limits) -> None:
        config = read_json(transformer_root(folder) / "config.json", {})
        sizes = [config.get(name) for name in _SIZES]
        self._size = next((size for size in sizes if isinstance(size, int) and size > 0), 1)
        self._tokenizer = TextTokenizer(folder, manifest.options, limits)
        self._defaults = check_defaults(TextParameters, {"truncate": bool(manifest.options.get("truncate", False))})

    def prepare(self, inputs: Sequence[Any], parameters: Mapping[str, Any], pointer: str = "/inputs") -> Prepared:
        read = read_parameters(TextParameters, parameters, self._defaults)
        tokens = self._tokenizer.encode(inputs, pointer, read.truncate)
        costs = [len(ids) for ids in tokens.ids]
        so_far = np.cumsum(costs) * self._size
        if len(costs) and so_far[-1] > MAX_NUMBERS:
            index = int(np.argmax(so_far > MAX_NUMBERS))
            told = f"up to here the answer has {so_far[index]:,} numbers, {self._size} a token"
            mend = f"at most {MAX_NUMBERS:,} are given: send the texts in several requests"
            raise InvalidInput(f"{told}; {mend}", f"{pointer}/{index}")
        return Prepared(tokens.ids, costs, {}, sum(costs), tokens.truncated)

    def finish(self, prepared: Prepared, outputs: Sequence[Array]) -> list[Any]:
        return list(outputs)


class FeaturesModel(ModelSide):
    """Model side: float32 states [length, dimensions] per row."""

    def __init__(self, folder: Path, manifest: Manifest, precision: str) -> None:
        from model_api.compute.load_encoder import load_encoder

        self._encoder, self.precision_reason = load_encoder(transformer_root(folder), precision)
        self.precision = self._encoder.precision

    def warm(self) -> None:
        self._encoder.warm()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return [states.numpy() for states in self._encoder.hidden_states(arrays)]


class FeatureExtraction(EncoderTask):
    parameters = TextParameters
    prediction = list[list[float]]
    options = EncoderOptions
    warm_inputs = (
        "warm",
        "A sentence of ordinary length to warm up with.",
        "Weights are published once and served by every instance. " * 6,
        "naïve café, 東京, 🙂 and 1,234.56 in one text",
    )
    warm_parameters: ClassVar[Mapping[str, Any]] = {"truncate": True}

    def open_web(self, folder: Path, manifest: Manifest, limits: Limits) -> FeaturesWeb:
        return FeaturesWeb(folder, manifest, limits)

    def load_model(self, folder: Path, manifest: Manifest, precision: str) -> FeaturesModel:
        return FeaturesModel(folder, manifest, precision)


TASK = FeatureExtraction()
