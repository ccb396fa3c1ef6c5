"""The padding-free encoder of BERT, RoBERTa, XLM-RoBERTa, MiniLM and DistilBERT.

The sequences of a batch are laid end to end: every linear layer runs once on [tokens, hidden], and attention per group
of sequences of about one length. No padding is computed beyond the attention of short sequences, and a text's answer is
the same to the bit alone and in any batch. Model side only: imports torch; one thread.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

from model_api.compute.architectures import Architecture, supports
from model_api.compute.attention import attend, groups_of
from model_api.compute.encoder_shape import DTYPES, EncoderShape
from model_api.compute.encoder_weights import EncoderWeights
from model_api.compute.linear import Linear, row_spans
from model_api.compute.pooling import first_rows, last_rows, pool
from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused
from model_api.repository.loaded_files import CONFIG_FILE

TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Norm:
    weight: torch.Tensor  # float32 in either precision: it costs nothing
    bias: torch.Tensor
    eps: float
    dtype: torch.dtype  # of the result

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x.to(self.dtype), self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    qkv: Linear
    attention_output: Linear
    attention_norm: _Norm
    ffn_in: Linear
    ffn_out: Linear
    ffn_norm: _Norm

    def after_attention(self, context: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The layer's output from its input and what attention gathered; row by row."""
        x = self.attention_norm(self.attention_output(context, x))
        return self.ffn_norm(self.ffn_out(self.ffn_in(x), x))


@dataclass(frozen=True)
class _Batch:
    """Sequences sorted by length, end to end."""

    order: npt.NDArray[np.intp]  # order[i]: the caller's index of the i-th sequence here
    lengths: list[int]
    ids: torch.Tensor  # [rows]; rows >= tokens, the surplus is computed for nothing
    positions: torch.Tensor  # [rows], rows of the position table
    types: torch.Tensor | None  # [rows], token types; None where all are 0


class Encoder:
    """One loaded model. After `load` it is never written to, so forked processes share its pages."""

    def __init__(
        self,
        architecture: Architecture,
        precision: str,
        word_table: torch.Tensor,
        position_table: torch.Tensor,
        token_types: torch.Tensor,
        embedding_norm: _Norm,
        layers: Sequence[_Layer],
    ) -> None:
        self._architecture = architecture
        self._shape = EncoderShape.of(architecture, precision)
        self._word_table = word_table
        self._position_table = position_table
        self._token_types = token_types
        self._embedding_norm = embedding_norm
        self._layers = tuple(layers)
        self._dtype = DTYPES[precision]
        self.precision = precision
        self.hidden_size = architecture.hidden_size
        self.max_tokens = architecture.max_tokens

    @classmethod
    def load(cls, folder: Path, precision: str, head: Collection[str] | None = None) -> Encoder:
        """Read config.json and the safetensors of `folder`, in "float32" or "bfloat16".

        Raises Refused naming the file, and the tensor that is missing, has a wrong shape, or isn't read; `head` are
        those that another reads, None where any head may be left alone. The word table stays mapped from its file, as
        stored; everything else is copied, layer by layer.
        """
        config = read_config(folder)
        if not supports(config):
            raise Refused(CONFIG_FILE, f"not an architecture of this encoder: {config.get('model_type')!r}")
        architecture = Architecture.from_config(config)
        with torch.inference_mode():
            weights = EncoderWeights(architecture, WeightReader(folder))
            loader = _Loader(architecture, weights, DTYPES[precision])
            layers = [loader.layer(i) for i in range(architecture.n_layers)]
            position_table, token_types = weights.position_table(), weights.token_types()
            embedding_norm = loader.embedding_norm()
            weights.check_nothing_else(head)
            # The pages of all other tensors are resident in that mapping: take the table from a fresh one.
            del loader, weights
            word_table = EncoderWeights(architecture, WeightReader(folder)).word_table()
        return cls(architecture, precision, word_table, position_table, token_types, embedding_norm, layers)

    def takes(self, sequence: TokenIds) -> bool:
        """Whether it can compute a pair of texts with those token types."""
        return True

    def hidden_states(self, sequences: Sequence[TokenIds]) -> list[torch.Tensor]:
        """The last layer's [length, hidden] of each sequence, in order; float32 in either precision.

        A sequence holds 1 to `max_tokens` ids, special tokens included; ValueError otherwise. A pair of texts is
        [2, length]: its ids, and their token types.
        """
        if not sequences:
            return []
        with torch.inference_mode():
            batch = self._batch(sequences)
            states = torch.split(self._forward(batch), batch.lengths)
        return [states[i] for i in np.argsort(batch.order)]

    def pooled(
        self, sequences: Sequence[TokenIds], poolings: str | Sequence[str], skipped: int = 0
    ) -> npt.NDArray[np.float32]:
        """[sequences, poolings * hidden], of POOLINGS, taken in float32, not normalised; see pooling.py for `skipped`.
        Raises as `hidden_states` does."""
        names = (poolings,) if isinstance(poolings, str) else tuple(poolings)
        if not sequences:
            return np.empty((0, len(names) * self.hidden_size), np.float32)
        with torch.inference_mode():
            batch = self._batch(sequences)
            if names in (("cls",), ("lasttoken",)) and not skipped:
                rows = first_rows(batch.lengths) if names == ("cls",) else last_rows(batch.lengths)
                vectors = self._forward(batch, rows)
            else:
                vectors = pool(self._forward(batch), batch.lengths, names, skipped)
        result = np.empty((len(sequences), vectors.shape[1]), np.float32)
        result[batch.order] = vectors.numpy()
        return result

    def warm(self) -> None:
        """Have oneDNN compile its code for every size, unless an encoder of this shape did. Call before forking: the
        code is then shared."""
        self._shape.warm()

    def _batch(self, sequences: Sequence[TokenIds]) -> _Batch:
        lengths = np.array([s.shape[-1] for s in sequences])
        if lengths.min() < 1 or lengths.max() > self.max_tokens:
            raise ValueError(
                f"sequences of {lengths.min()} to {lengths.max()} tokens; 1 to {self.max_tokens} are possible"
            )
        order = np.argsort(lengths, kind="stable")
        lengths = lengths[order]
        ordered = [sequences[i] for i in order]
        ids = np.concatenate([s if s.ndim == 1 else s[0] for s in ordered])
        first = np.repeat(lengths.cumsum() - lengths, lengths)
        positions = np.arange(len(ids)) - first
        padding_id = self._architecture.padding_id
        if padding_id is not None:
            real = ids != padding_id
            if not real.all():  # a text that spells out the padding token: that has a row of its own, before the first
                count = real.cumsum()
                positions = np.where(real, count - (count - real)[first] - 1, -1)
        positions += self._architecture.first_position
        padded = np.zeros((3, row_spans(len(ids))[-1][1]), np.int64)
        padded[:2, : len(ids)] = ids, positions
        if self._architecture.n_token_types and any(s.ndim > 1 for s in ordered):
            padded[2, : len(ids)] = np.concatenate([np.zeros_like(s) if s.ndim == 1 else s[1] for s in ordered])
        tensors = torch.from_numpy(padded)
        return _Batch(order, lengths.tolist(), tensors[0], tensors[1], tensors[2] if padded[2].any() else None)

    def _forward(self, batch: _Batch, last_rows: torch.Tensor | None = None) -> torch.Tensor:
        """The last hidden states, [tokens, hidden]; or those of `last_rows` alone, sparing the last layer the rest."""
        words = self._word_table.index_select(0, batch.ids).float()
        words += self._position_table.index_select(0, batch.positions)
        if batch.types is not None:
            words += self._token_types.index_select(0, batch.types)
        x = self._embedding_norm(words).to(self._dtype)
        groups = groups_of(batch.lengths)
        spans = row_spans(len(x))
        for number, layer in enumerate(self._layers, 1):
            context = attend(_cat([layer.qkv(x[a:b]) for a, b in spans]), groups, self._architecture.n_heads)
            if last_rows is not None and number == len(self._layers):
                return layer.after_attention(context.index_select(0, last_rows), x.index_select(0, last_rows))
            x = _cat([layer.after_attention(context[a:b], x[a:b]) for a, b in spans])
        return x[: sum(batch.lengths)]


def _cat(parts: list[torch.Tensor]) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Loader:
    """Builds the parts of an Encoder."""

    def __init__(self, architecture: Architecture, weights: EncoderWeights, dtype: torch.dtype) -> None:
        self._sizes = architecture
        self._weights = weights
        self._dtype = dtype

    def embedding_norm(self) -> _Norm:
        return _Norm(*self._weights.embedding_norm(), self._sizes.norm_eps, torch.float32)

    def layer(self, number: int) -> _Layer:
        weights, sizes, dtype = self._weights, self._sizes, self._dtype
        last = number == sizes.n_layers - 1
        return _Layer(
            qkv=self._qkv(number),
            attention_output=Linear(*weights.linear(number, "attention_output", dtype)),
            attention_norm=self._norm(number, "attention_norm", dtype),
            ffn_in=Linear(*weights.linear(number, "ffn_in", dtype), sizes.activation),
            ffn_out=Linear(*weights.linear(number, "ffn_out", dtype)),
            ffn_norm=self._norm(number, "ffn_norm", torch.float32 if last else dtype),
        )

    def _qkv(self, number: int) -> Linear:
        """Query, key and value as one layer; the query carries the scale of the scores."""
        scale = (self._sizes.hidden_size // self._sizes.n_heads) ** -0.5
        weights, biases = [], []
        for part, factor in (("query", scale), ("key", 1.0), ("value", 1.0)):
            weight, bias = self._weights.linear(number, part)
            weights.append(weight.mul_(factor).to(self._dtype))
            biases.append(bias.mul_(factor).to(self._dtype))
        return Linear(torch.cat(weights), torch.cat(biases))

    def _norm(self, number: int, part: str, dtype: torch.dtype) -> _Norm:
        return _Norm(*self._weights.norm(number, part), self._sizes.norm_eps, dtype)
