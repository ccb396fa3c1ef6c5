"""The padding-free encoder of BERT, RoBERTa, XLM-RoBERTa, MiniLM and DistilBERT.

The sequences of a batch are laid end to end: every linear layer runs once on [tokens, hidden], and attention runs per
group of exactly equal length, without a mask. No padding is computed, and a text's answer is the same to the bit alone
and in any batch. Model side only: imports torch; one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

from model_api.architectures import Architecture, supports
from model_api.errors import Refused
from model_api.linear import Linear
from model_api.pooling import first_rows, last_rows, pool
from model_api.weights import CONFIG_FILE, WeightReader, read_config

__all__ = ["DTYPES", "Encoder", "choose_precision", "supports"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, arm64

TokenIds = npt.NDArray[np.int32]


def choose_precision(asked: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """ "auto" becomes bfloat16 where the processor multiplies it, else float32; the other two stay as they are."""
    if asked in DTYPES:
        return asked
    if asked != "auto":
        raise ValueError(f"precision {asked!r} is none of auto, float32, bfloat16")
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return "float32"
    return "bfloat16" if words & _BFLOAT16_FLAGS else "float32"


@dataclass(frozen=True)
class _Norm:
    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


@dataclass(frozen=True)
class _Layer:
    qkv: Linear
    attention_output: Linear
    attention_norm: _Norm
    ffn_in: Linear
    ffn_out: Linear
    ffn_norm: _Norm


@dataclass(frozen=True)
class _Batch:
    """Sequences sorted by length, end to end."""

    order: npt.NDArray[np.intp]  # order[i]: the caller's index of the i-th sequence here
    lengths: list[int]
    ids: torch.Tensor  # [tokens]
    positions: torch.Tensor  # [tokens], rows of the position table

    def groups(self) -> list[tuple[int, int, int]]:
        """(first row, sequences, length) of each run of equal lengths."""
        groups: list[tuple[int, int, int]] = []
        row = start = 0
        for end in range(1, len(self.lengths) + 1):
            if end == len(self.lengths) or self.lengths[end] != self.lengths[start]:
                groups.append((row, end - start, self.lengths[start]))
                row += (end - start) * self.lengths[start]
                start = end
        return groups


class Encoder:
    """One loaded model. After `load` it is never written to, so forked processes share its pages."""

    def __init__(
        self,
        architecture: Architecture,
        precision: str,
        word_table: torch.Tensor,
        position_table: torch.Tensor,
        embedding_norm: _Norm,
        layers: Sequence[_Layer],
    ) -> None:
        self._architecture = architecture
        self._word_table = word_table
        self._position_table = position_table
        self._embedding_norm = embedding_norm
        self._layers = tuple(layers)
        self._dtype = DTYPES[precision]
        self.precision = precision
        self.hidden_size = architecture.hidden_size
        self.max_tokens = architecture.max_tokens

    @classmethod
    def load(cls, folder: Path, precision: str) -> Encoder:
        """Read config.json and the safetensors of `folder`, in "float32" or "bfloat16".

        Raises Refused naming the file, and the tensor that is missing or has a wrong shape. The word table stays
        mapped from its file, as stored; everything else is copied, layer by layer.
        """
        config = read_config(folder)
        if not supports(config):
            raise Refused(CONFIG_FILE, f"not an architecture of this encoder: {config.get('model_type')!r}")
        architecture = Architecture.from_config(config)
        with torch.inference_mode():
            loader = _Loader(architecture, WeightReader(folder), DTYPES[precision])
            layers = [loader.layer(i) for i in range(architecture.n_layers)]
            position_table, embedding_norm = loader.position_table(), loader.embedding_norm()
            # The pages of all other tensors are resident in that mapping: take the table from a fresh one.
            del loader
            word_table = _Loader(architecture, WeightReader(folder), torch.float32).word_table()
        return cls(architecture, precision, word_table, position_table, embedding_norm, layers)

    def hidden_states(self, sequences: Sequence[TokenIds]) -> list[torch.Tensor]:
        """The last layer's [length, hidden] of each sequence, in order and in the model's precision.

        A sequence holds 1 to `max_tokens` ids, special tokens included; ValueError otherwise.
        """
        if not sequences:
            return []
        with torch.inference_mode():
            batch = self._batch(sequences)
            states = torch.split(self._forward(batch), batch.lengths)
        return [states[i] for i in np.argsort(batch.order)]

    def pooled(self, sequences: Sequence[TokenIds], pooling: str) -> npt.NDArray[np.float32]:
        """[sequences, hidden], one of POOLINGS taken in float32, not normalised. Raises as `hidden_states` does."""
        if not sequences:
            return np.empty((0, self.hidden_size), np.float32)
        with torch.inference_mode():
            batch = self._batch(sequences)
            if pooling in ("cls", "lasttoken"):
                rows = first_rows(batch.lengths) if pooling == "cls" else last_rows(batch.lengths)
                vectors = self._forward(batch, rows).float()
            else:
                vectors = pool(self._forward(batch), batch.lengths, pooling)
        result = np.empty((len(sequences), self.hidden_size), np.float32)
        result[batch.order] = vectors.numpy()
        return result

    def _batch(self, sequences: Sequence[TokenIds]) -> _Batch:
        lengths = np.array([len(s) for s in sequences])
        if lengths.min() < 1 or lengths.max() > self.max_tokens:
            raise ValueError(
                f"sequences of {lengths.min()} to {lengths.max()} tokens; 1 to {self.max_tokens} are possible"
            )
        order = np.argsort(lengths, kind="stable")
        lengths = lengths[order]
        ids = np.concatenate([sequences[i] for i in order])
        first = np.repeat(lengths.cumsum() - lengths, lengths)
        positions = np.arange(len(ids)) - first
        padding_id = self._architecture.padding_id
        if padding_id is not None:
            real = ids != padding_id
            if not real.all():  # a text that spells out the padding token: that has a row of its own, before the first
                count = real.cumsum()
                positions = np.where(real, count - (count - real)[first] - 1, -1)
        positions += self._architecture.first_position
        return _Batch(order, lengths.tolist(), torch.from_numpy(ids), torch.from_numpy(positions))

    def _forward(self, batch: _Batch, last_rows: torch.Tensor | None = None) -> torch.Tensor:
        """The last hidden states, [tokens, hidden]; or those of `last_rows` alone, sparing the last layer the rest."""
        words = self._word_table.index_select(0, batch.ids).float()
        x = self._embedding_norm(words + self._position_table.index_select(0, batch.positions)).to(self._dtype)
        groups = batch.groups()
        for number, layer in enumerate(self._layers, 1):
            context = self._attend(layer.qkv(x), groups)
            if last_rows is not None and number == len(self._layers):
                context, x = context.index_select(0, last_rows), x.index_select(0, last_rows)
            x = layer.attention_norm(layer.attention_output(context, x))
            x = layer.ffn_norm(layer.ffn_out(layer.ffn_in(x), x))
        return x

    def _attend(self, qkv: torch.Tensor, groups: list[tuple[int, int, int]]) -> torch.Tensor:
        heads, hidden = self._architecture.n_heads, self.hidden_size
        contexts = []
        for row, count, length in groups:
            rows = qkv[row : row + count * length]
            query, key, value = rows.view(count, length, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4).unbind()
            context = F.scaled_dot_product_attention(query, key, value)
            contexts.append(context.transpose(1, 2).reshape(count * length, hidden))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


class _Loader:
    """Builds the parts of an Encoder from a reader."""

    def __init__(self, architecture: Architecture, reader: WeightReader, dtype: torch.dtype) -> None:
        self._sizes = architecture
        self._names = architecture.names
        self._reader = reader
        self._dtype = dtype
        table = "embeddings.word_embeddings.weight"
        self._prefix = next((p for p in self._names.prefixes if p + table in reader), "")

    def word_table(self) -> torch.Tensor:
        shape = (self._sizes.vocabulary, self._sizes.hidden_size)
        return self._reader.tensor(self._prefix + "embeddings.word_embeddings.weight", shape)

    def position_table(self) -> torch.Tensor:
        """Positions, and the embedding of token type 0 with them: the only one that single texts have."""
        sizes, name = self._sizes, self._prefix + "embeddings.{}_embeddings.weight"
        table = self._reader.copy(name.format("position"), (sizes.n_positions, sizes.hidden_size))
        if sizes.n_token_types:
            table += self._reader.tensor(name.format("token_type"), (sizes.n_token_types, sizes.hidden_size))[0]
        return table

    def embedding_norm(self) -> _Norm:
        return self._norm(self._prefix + "embeddings.LayerNorm", torch.float32)

    def layer(self, number: int) -> _Layer:
        sizes, names = self._sizes, self._names
        prefix = self._prefix + names.layer.format(number)
        hidden, ffn = sizes.hidden_size, sizes.ffn_size
        qkv = [self._linear(prefix + name, hidden, hidden) for name in (names.query, names.key, names.value)]
        return _Layer(
            qkv=Linear(torch.cat([w for w, _ in qkv]), torch.cat([b for _, b in qkv])),
            attention_output=Linear(*self._linear(prefix + names.attention_output, hidden, hidden)),
            attention_norm=self._norm(prefix + names.attention_norm, self._dtype),
            ffn_in=Linear(*self._linear(prefix + names.ffn_in, ffn, hidden), sizes.activation),
            ffn_out=Linear(*self._linear(prefix + names.ffn_out, hidden, ffn)),
            ffn_norm=self._norm(prefix + names.ffn_norm, self._dtype),
        )

    def _linear(self, name: str, n_out: int, n_in: int) -> tuple[torch.Tensor, torch.Tensor]:
        copy = self._reader.copy
        return copy(name + ".weight", (n_out, n_in), self._dtype), copy(name + ".bias", (n_out,), self._dtype)

    def _norm(self, name: str, dtype: torch.dtype) -> _Norm:
        # Checkpoints that came from TensorFlow call the two gamma and beta.
        weight, bias = ("gamma", "beta") if f"{name}.gamma" in self._reader else ("weight", "bias")
        shape = (self._sizes.hidden_size,)
        copy = self._reader.copy
        return _Norm(copy(f"{name}.{weight}", shape, dtype), copy(f"{name}.{bias}", shape, dtype), self._sizes.norm_eps)
