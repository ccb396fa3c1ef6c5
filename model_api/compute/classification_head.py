"""The classification heads of BERT, RoBERTa and DistilBERT on the padding-free encoder. Model side only: imports torch.

The head runs in float32 whatever the encoder's precision is: it is a thousandth of the work and decides the scores.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.architectures import supports
from model_api.compute.encoder import TokenIds
from model_api.compute.linear import Linear
from model_api.compute.load_encoder import load_own, settle_precision
from model_api.compute.transformers_encoder import check_notes, load_pretrained
from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE

Scores = npt.NDArray[np.float32]  # [texts, labels]


class Classifier(Protocol):
    precision: str

    def warm(self) -> None: ...
    def scores(self, sequences: Sequence[TokenIds]) -> Scores: ...
    def takes(self, sequence: TokenIds) -> bool:
        """Whether it can compute the sequence: int8 takes no token types."""


@dataclass(frozen=True)
class _HeadNames:
    """Two linear layers over the first token's state, with an activation between them."""

    hidden: str
    between: Callable[[torch.Tensor], torch.Tensor]
    output: str


_ROBERTA = _HeadNames("classifier.dense", torch.tanh, "classifier.out_proj")
_HEADS: Mapping[str, _HeadNames] = {
    "bert": _HeadNames("bert.pooler.dense", torch.tanh, "classifier"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": _HeadNames("pre_classifier", torch.relu, "classifier"),
}
_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda outputs: outputs,
    "sigmoid": torch.sigmoid,
    "softmax": lambda outputs: torch.softmax(outputs, dim=-1),
}


def load_classifier(
    folder: Path, asked: str, n_labels: int, activation: str, pairs: bool = False
) -> tuple[Classifier, str | None]:
    """Our own encoder and head where the family is known, transformers elsewhere; and, where it isn't in int8 although
    that was asked for, why. `pairs`: it is asked about two texts at a time. Raises Refused."""
    config = read_config(folder)
    precision, reason = settle_precision(config, asked, pairs)
    if supports(config):  # every family of the encoder has its head here
        names = _HEADS[config["model_type"]]
        return HeadedEncoder(folder, precision, names, n_labels, activation), reason
    return _TransformersClassifier(folder, precision, n_labels, activation), reason


class HeadedEncoder:
    """An encoder with its head; as the encoder, a text's scores don't depend on its batch."""

    def __init__(self, folder: Path, precision: str, names: _HeadNames, n_labels: int, activation: str) -> None:
        read = {f"{layer}.{end}" for layer in (names.hidden, names.output) for end in ("weight", "bias")}
        self._encoder = load_own(folder, precision, read)
        self.precision = precision
        reader, size = WeightReader(folder), self._encoder.hidden_size

        def linear(name: str, n_out: int) -> Linear:
            return Linear(reader.copy(name + ".weight", (n_out, size)), reader.copy(name + ".bias", (n_out,)))

        with torch.inference_mode():
            self._hidden, self._output = linear(names.hidden, size), linear(names.output, n_labels)
        self._between = names.between
        self._activation = _ACTIVATIONS[activation]

    def warm(self) -> None:
        """As Encoder.warm. The head's two layers compile in no time."""
        self._encoder.warm()

    def takes(self, sequence: TokenIds) -> bool:
        """See Classifier."""
        return self._encoder.takes(sequence)

    def scores(self, sequences: Sequence[TokenIds]) -> Scores:
        """float32 [sequences, labels]."""
        states = torch.from_numpy(self._encoder.pooled(sequences, "cls"))
        with torch.inference_mode():
            outputs = self._output(self._between(self._hidden(states)))
            return np.asarray(self._activation(outputs).numpy())


class _TransformersClassifier:
    """Any other architecture, a text at a time and unpadded. transformers is imported on load, which takes seconds."""

    def __init__(self, folder: Path, precision: str, n_labels: int, activation: str) -> None:
        model, notes = load_pretrained("AutoModelForSequenceClassification", folder, precision)
        check_notes(notes, model, with_head=True)
        if model.config.num_labels != n_labels:
            raise Refused(CONFIG_FILE, f"{model.config.num_labels} outputs for {n_labels} labels")
        self._model: Any = model.eval()
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._activation = _ACTIVATIONS[activation]
        self.precision = precision

    def warm(self) -> None:
        """Nothing to prepare: transformers has no state that fills up with use."""

    def takes(self, sequence: TokenIds) -> bool:
        """See Classifier."""
        return True

    def scores(self, sequences: Sequence[TokenIds]) -> Scores:
        """float32 [sequences, labels]."""
        with torch.inference_mode():
            rows = [self._one(torch.from_numpy(sequence.astype(np.int64))) for sequence in sequences]
            return np.asarray(self._activation(torch.stack(rows)).numpy())

    def _one(self, row: torch.Tensor) -> torch.Tensor:
        """Of ids [length], or of a pair's ids and token types [2, length]."""
        if row.ndim == 1 or not self._takes_types or not row[1].any():
            logits: torch.Tensor = self._model(row[None] if row.ndim == 1 else row[:1]).logits
        else:
            logits = self._model(row[:1], token_type_ids=row[1:]).logits
        return logits[0].float()
