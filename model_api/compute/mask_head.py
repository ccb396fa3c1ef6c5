"""Heads of masked language models: the probability of every token where one is masked. Model side only: imports torch.

Families of the padding-free encoder run on it, in any of its precisions. The head is float32, and computed at the mask
alone, a text at a time: so its answer doesn't depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

from model_api.compute.architectures import Architecture, supports
from model_api.compute.encoder import TokenIds
from model_api.compute.encoder_weights import EncoderWeights
from model_api.compute.load_encoder import load_own, settle_precision
from model_api.compute.transformers_encoder import check_notes, load_pretrained
from model_api.compute.weights import WeightReader, read_config

LogProbabilities = npt.NDArray[np.float32]  # [vocabulary]
_TABLE_ROWS = 8192  # of a table that isn't stored in float32, at a time


@dataclass(frozen=True)
class _HeadNames:
    """A linear layer, an activation, a norm, and the table of words read backwards, with a bias."""

    dense: str
    norm: str
    decoder: str
    bias: str


_BERT = _HeadNames(
    "cls.predictions.transform.dense",
    "cls.predictions.transform.LayerNorm",
    "cls.predictions.decoder",
    "cls.predictions.bias",
)
_ROBERTA = _HeadNames("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias")
_HEADS: Mapping[str, _HeadNames] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _HeadNames("vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias"),
}
_ACTIVATIONS: Mapping[tuple[str, str], Callable[[torch.Tensor], torch.Tensor]] = {
    ("gelu", "none"): F.gelu,
    ("gelu", "tanh"): lambda x: F.gelu(x, approximate="tanh"),
    ("relu", ""): F.relu,
}


class MaskHead(Protocol):
    precision: str

    def warm(self) -> None: ...
    def log_probabilities(self, sequences: Sequence[TokenIds], places: Sequence[int]) -> list[LogProbabilities]:
        """One [vocabulary] per sequence, of the token at its place."""


def load_mask_head(folder: Path, asked: str) -> tuple[MaskHead, str | None]:
    """Our own encoder with its head where the family is known, transformers elsewhere; and, where it isn't in int8
    although that was asked for, why. Raises Refused."""
    config = read_config(folder)
    precision, reason = settle_precision(config, asked)
    if supports(config):
        return _OwnHead(folder, precision, config), reason
    return _TransformersHead(folder, precision), reason


class _OwnHead:
    def __init__(self, folder: Path, precision: str, config: Mapping[str, Any]) -> None:
        names, reader = _HEADS[config["model_type"]], WeightReader(folder)
        architecture = Architecture.from_config(config)
        size, n_words = architecture.hidden_size, architecture.vocabulary
        tied, bias = bool(config.get("tie_word_embeddings", True)), names.bias
        if f"{names.decoder}.bias" in reader and (not tied or bias not in reader):
            bias = f"{names.decoder}.bias"
        ends = ("weight", "bias", "gamma", "beta")
        read = {f"{part}.{end}" for part in (names.dense, names.norm, names.decoder) for end in ends}
        self._encoder = load_own(folder, precision, {*read, names.bias})
        self.precision = precision
        self._eps = architecture.norm_eps
        # RoBERTa's head has the exact gelu, whatever the encoder has.
        self._activation = F.gelu if names is _ROBERTA else _ACTIVATIONS[architecture.activation]
        with torch.inference_mode():
            shapes = {"weight": (size, size), "bias": (size,)}
            self._dense = [reader.copy(f"{names.dense}.{end}", shape) for end, shape in shapes.items()]
            norm = ("gamma", "beta") if f"{names.norm}.gamma" in reader else ("weight", "bias")
            self._norm = [reader.copy(f"{names.norm}.{end}", (size,)) for end in norm]
            self._bias = reader.copy(bias, (n_words,))
            if tied:
                del reader  # the table alone stays mapped
                self._table = EncoderWeights(architecture, WeightReader(folder)).word_table()
            else:
                self._table = reader.tensor(f"{names.decoder}.weight", (n_words, size))

    def warm(self) -> None:
        """As Encoder.warm."""
        self._encoder.warm()

    def log_probabilities(self, sequences: Sequence[TokenIds], places: Sequence[int]) -> list[LogProbabilities]:
        """See MaskHead."""
        states = self._encoder.hidden_states(sequences)
        with torch.inference_mode():
            return [self._of(rows[place]) for rows, place in zip(states, places, strict=True)]

    def _of(self, state: torch.Tensor) -> LogProbabilities:
        x = self._activation(torch.mv(self._dense[0], state) + self._dense[1])
        x = F.layer_norm(x, x.shape, self._norm[0], self._norm[1], self._eps)
        parts = [torch.mv(rows.float(), x) for rows in torch.split(self._table, _TABLE_ROWS)]
        return np.asarray(torch.log_softmax(torch.cat(parts) + self._bias, 0).numpy())


class _TransformersHead:
    """Any other architecture, a text at a time and unpadded. transformers is imported on load, which takes seconds."""

    def __init__(self, folder: Path, precision: str) -> None:
        model, notes = load_pretrained("AutoModelForMaskedLM", folder, precision)
        check_notes(notes, model, with_head=True)
        self._model: Any = model.eval()
        self.precision = precision

    def warm(self) -> None:
        """Nothing to prepare: transformers has no state that fills up with use."""

    def log_probabilities(self, sequences: Sequence[TokenIds], places: Sequence[int]) -> list[LogProbabilities]:
        """See MaskHead."""
        found = []
        with torch.inference_mode():
            for sequence, place in zip(sequences, places, strict=True):
                logits = self._model(torch.from_numpy(sequence.astype(np.int64))[None]).logits[0, place]
                found.append(np.asarray(torch.log_softmax(logits.float(), 0).numpy()))
        return found
