"""Heads that answer for every token: one linear layer over the last states. Model side only: imports torch.

Families of the padding-free encoder run on it, in any of its precisions; the head itself is float32.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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

TokenLogits = npt.NDArray[np.float32]  # [length, outputs] of one sequence
# head -> (its layer in all families of the padding-free encoder, transformers' class)
_HEADS: Mapping[str, tuple[str, str]] = {
    "token-classification": ("classifier", "AutoModelForTokenClassification"),
    "question-answering": ("qa_outputs", "AutoModelForQuestionAnswering"),
}


class TokenHead(Protocol):
    precision: str

    def warm(self) -> None: ...
    def logits(self, sequences: Sequence[TokenIds]) -> list[TokenLogits]:
        """One [length, outputs] per sequence, of ids [length] or of a pair's ids and token types [2, length]."""


def load_token_head(
    folder: Path, asked: str, head: str, n_outputs: int, pairs: bool = False
) -> tuple[TokenHead, str | None]:
    """Our own encoder with that head where the family is known, transformers elsewhere; and, where it isn't in int8
    although that was asked for, why. `pairs`: it is asked about two texts at a time. Raises Refused."""
    config = read_config(folder)
    precision, reason = settle_precision(config, asked, pairs)
    layer, model_class = _HEADS[head]
    if supports(config):
        return _OwnHead(folder, precision, layer, n_outputs), reason
    return _TransformersHead(folder, precision, model_class, n_outputs), reason


class _OwnHead:
    """As the encoder, a text's logits don't depend on its batch."""

    def __init__(self, folder: Path, precision: str, layer: str, n_outputs: int) -> None:
        weight, bias = f"{layer}.weight", f"{layer}.bias"
        self._encoder = load_own(folder, precision, {weight, bias})
        self.precision = precision
        reader, size = WeightReader(folder), self._encoder.hidden_size
        with torch.inference_mode():
            self._layer = Linear(reader.copy(weight, (n_outputs, size)), reader.copy(bias, (n_outputs,)))

    def warm(self) -> None:
        """As Encoder.warm. The head's layer compiles in no time."""
        self._encoder.warm()

    def logits(self, sequences: Sequence[TokenIds]) -> list[TokenLogits]:
        """See TokenHead."""
        if not sequences:
            return []
        states = self._encoder.hidden_states(sequences)
        with torch.inference_mode():
            outputs = self._layer(torch.cat(states))
            return [part.numpy() for part in torch.split(outputs, [len(rows) for rows in states])]


class _TransformersHead:
    """Any other architecture, a text at a time and unpadded. transformers is imported on load, which takes seconds."""

    def __init__(self, folder: Path, precision: str, model_class: str, n_outputs: int) -> None:
        model, notes = load_pretrained(model_class, folder, precision)
        check_notes(notes, model, with_head=True)
        if model.config.num_labels != n_outputs:
            raise Refused(CONFIG_FILE, f"{model.config.num_labels} outputs, the task needs {n_outputs}")
        self._model: Any = model.eval()
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self.precision = precision

    def warm(self) -> None:
        """Nothing to prepare: transformers has no state that fills up with use."""

    def logits(self, sequences: Sequence[TokenIds]) -> list[TokenLogits]:
        """See TokenHead."""
        with torch.inference_mode():
            return [self._one(torch.from_numpy(sequence.astype(np.int64))) for sequence in sequences]

    def _one(self, row: torch.Tensor) -> TokenLogits:
        types = {"token_type_ids": row[1:]} if row.ndim == 2 and self._takes_types and row[1].any() else {}
        output = self._model(row[None] if row.ndim == 1 else row[:1], **types)
        spans = "start_logits" in output
        logits = torch.stack([output.start_logits[0], output.end_logits[0]], -1) if spans else output.logits[0]
        return np.asarray(logits.float().numpy())
