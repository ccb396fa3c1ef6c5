"""The padding-free encoder in int8, on the kernels of native/: the same interface as Encoder, and the same promise that
a text's answer is the same to the bit alone and in any batch. Model side only: imports torch; one thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from model_api.compute.architectures import Architecture, supports
from model_api.compute.encoder import TokenIds
from model_api.compute.encoder_weights import EncoderWeights
from model_api.compute.pooling import pool
from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE, SINGLE_FILE

if TYPE_CHECKING:
    from int8_encoder import Matrix, PackedEncoder, Shape

try:
    import int8_encoder
except ImportError:  # an instance whose bundle was made without a compiler
    int8_encoder = None  # type: ignore[assignment]

_MATRICES: Mapping[str, Matrix] = {
    "query": "query",
    "key": "key",
    "value": "value",
    "attention_output": "projection",
    "ffn_in": "up",
    "ffn_out": "down",
}
_NATIVE_POOLINGS = ("cls", "mean", "max", "mean_sqrt_len_tokens", "lasttoken")
_ACTIVATIONS = {("gelu", "none"): "gelu", ("gelu", "tanh"): "gelu_tanh", ("relu", ""): "relu"}


def why_not_int8(config: Mapping[str, Any]) -> str | None:
    """Why a model of this config.json can't be served in int8 here; None if it can."""
    if int8_encoder is None or not int8_encoder.variants():
        return "the int8 kernels are not installed (scripts/native)"
    if int8_encoder.best_variant() is None:
        return "there are no int8 kernels for this processor"
    if not supports(config):
        return f"the int8 kernels don't know the architecture {config.get('model_type')!r}"
    return None


class QuantisedEncoder:
    """One loaded model. After `load` it is never written to, so forked processes share its pages."""

    precision = "int8"

    def __init__(self, architecture: Architecture, packed: PackedEncoder, word_table: torch.Tensor) -> None:
        self._packed = packed
        self._word_table = word_table  # keeps the mapping alive that `packed` reads from
        self.hidden_size = architecture.hidden_size
        self.max_tokens = architecture.max_tokens
        self._n_token_types = architecture.n_token_types

    @classmethod
    def load(cls, folder: Path, head: Collection[str] | None = None) -> QuantisedEncoder:
        """Read config.json and the safetensors of `folder`; needs `why_not_int8(config) is None`. Raises Refused as
        Encoder.load."""
        architecture = Architecture.from_config(read_config(folder))
        try:
            packed = int8_encoder.PackedEncoder(_shape_of(architecture), int8_encoder.best_variant())
        except ValueError as error:
            raise Refused(CONFIG_FILE, f"not servable in int8: {error}") from error
        with torch.inference_mode():
            weights = EncoderWeights(architecture, WeightReader(folder))
            try:
                _pack(packed, weights, architecture.n_layers)
            except ValueError as error:
                raise Refused(SINGLE_FILE, f"not servable in int8: {error}") from error
            weights.check_nothing_else(head)
            # The pages of all other tensors are resident in that mapping: take the table from a fresh one.
            del weights
            word_table = EncoderWeights(architecture, WeightReader(folder)).word_table()
            if word_table.dtype == torch.bfloat16:
                packed.set_words(word_table.view(torch.uint16).numpy(), bfloat16=True)
            else:
                if word_table.dtype not in (torch.float32, torch.float16):
                    word_table = word_table.float()
                packed.set_words(word_table.numpy())
        return cls(architecture, packed, word_table)

    def takes(self, sequence: TokenIds) -> bool:
        """As Encoder.takes: its kernels know the token type 0 alone, which is all that some families have."""
        return sequence.ndim == 1 or self._n_token_types < 2 or not sequence[1].any()

    def hidden_states(self, sequences: Sequence[TokenIds]) -> list[torch.Tensor]:
        """As Encoder.hidden_states; ValueError also for what it doesn't take."""
        lengths = [sequence.shape[-1] for sequence in sequences]
        return list(torch.split(torch.from_numpy(self._forward(sequences, "none")), lengths)) if sequences else []

    def pooled(
        self, sequences: Sequence[TokenIds], poolings: str | Sequence[str], skipped: int = 0
    ) -> npt.NDArray[np.float32]:
        """As Encoder.pooled."""
        names = (poolings,) if isinstance(poolings, str) else tuple(poolings)
        if len(names) == 1 and names[0] in _NATIVE_POOLINGS and not skipped:
            return self._forward(sequences, names[0])
        if not sequences:
            return np.empty((0, len(names) * self.hidden_size), np.float32)
        lengths = [sequence.shape[-1] for sequence in sequences]
        return pool(torch.from_numpy(self._forward(sequences, "none")), lengths, names, skipped).numpy()

    def warm(self) -> None:
        """Nothing to prepare: the weights are packed, and no code is made at run time."""

    def _forward(self, sequences: Sequence[TokenIds], pooling: str) -> npt.NDArray[np.float32]:
        lengths = [sequence.shape[-1] for sequence in sequences]
        if not all(map(self.takes, sequences)):
            raise ValueError("a pair of texts with token types, which the int8 kernels don't take")
        if lengths and not 1 <= min(lengths) <= max(lengths) <= self.max_tokens:
            raise ValueError(
                f"sequences of {min(lengths)} to {max(lengths)} tokens; 1 to {self.max_tokens} are possible"
            )
        return self._packed.forward([s if s.ndim == 1 else s[0] for s in sequences], pooling)


def _shape_of(architecture: Architecture) -> Shape:
    return int8_encoder.Shape(
        hidden=architecture.hidden_size,
        heads=architecture.n_heads,
        layers=architecture.n_layers,
        ffn=architecture.ffn_size,
        vocabulary=architecture.vocabulary,
        positions=architecture.n_positions,
        first_position=architecture.first_position,
        padding_id=-1 if architecture.padding_id is None else architecture.padding_id,
        activation=_ACTIVATIONS[architecture.activation],
        norm_eps=architecture.norm_eps,
    )


def _pack(packed: PackedEncoder, weights: EncoderWeights, n_layers: int) -> None:
    """All but the word table. Raises ValueError for weights that are not finite."""
    packed.set_positions(weights.position_table().numpy())
    packed.set_norm("embedding", *_arrays(weights.embedding_norm()))
    for layer in range(n_layers):
        for part, matrix in _MATRICES.items():
            packed.set_matrix(layer, matrix, *_arrays(weights.linear(layer, part)))
        packed.set_norm("attention", *_arrays(weights.norm(layer, "attention_norm")), layer)
        packed.set_norm("ffn", *_arrays(weights.norm(layer, "ffn_norm")), layer)


def _arrays(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    return pair[0].numpy(), pair[1].numpy()
