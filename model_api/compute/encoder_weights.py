"""An encoder's tensors by their parts, whatever the family calls them. Model side only: imports torch."""

from __future__ import annotations

from collections.abc import Collection

import torch

from model_api.compute.architectures import Architecture
from model_api.compute.unread_tensors import check_unread
from model_api.compute.weights import WeightReader

_PARTS = ("query", "key", "value", "attention_output", "attention_norm", "ffn_in", "ffn_out", "ffn_norm")
Pair = tuple[torch.Tensor, torch.Tensor]  # weight and bias


class EncoderWeights:
    """Parts are named as in TensorNames. All but the word table are copies. Every method raises Refused naming the file
    and the tensor that is missing or has a wrong shape."""

    def __init__(self, architecture: Architecture, reader: WeightReader) -> None:
        self._sizes = architecture
        self._names = architecture.names
        self._reader = reader
        table = "embeddings.word_embeddings.weight"
        self._prefix = next((p for p in self._names.prefixes if p + table in reader), "")

    def word_table(self) -> torch.Tensor:
        """As stored, backed by the file's mapping."""
        shape = (self._sizes.vocabulary, self._sizes.hidden_size)
        return self._reader.tensor(self._prefix + "embeddings.word_embeddings.weight", shape)

    def position_table(self) -> torch.Tensor:
        """Positions, and the embedding of token type 0 with them: the only one that single texts have. float32."""
        sizes, name = self._sizes, self._prefix + "embeddings.{}_embeddings.weight"
        table = self._reader.copy(name.format("position"), (sizes.n_positions, sizes.hidden_size))
        if sizes.n_token_types:
            table += self._reader.tensor(name.format("token_type"), (sizes.n_token_types, sizes.hidden_size))[0]
        return table

    def token_types(self) -> torch.Tensor:
        """What another token type than 0 adds to the position table's rows, [types, hidden], float32."""
        sizes, name = self._sizes, self._prefix + "embeddings.token_type_embeddings.weight"
        if not sizes.n_token_types:
            return torch.zeros(1, sizes.hidden_size)
        table = self._reader.copy(name, (sizes.n_token_types, sizes.hidden_size))
        return table - table[0]

    def embedding_norm(self) -> Pair:
        return self._norm(self._prefix + "embeddings.LayerNorm")

    def norm(self, layer: int, part: str) -> Pair:
        """float32."""
        return self._norm(self._place(layer, part))

    def check_nothing_else(self, head: Collection[str] | None) -> None:
        """Raises Refused for a tensor that neither this encoder nor `head` reads, but for known leftovers."""
        names, sizes = self._names, self._sizes
        known = {f"embeddings.{table}_embeddings.weight" for table in ("word", "position", "token_type")}
        ends = ("weight", "bias", "gamma", "beta")
        known |= {f"embeddings.LayerNorm.{end}" for end in ends}
        parts = [getattr(names, part) for part in _PARTS]
        layers = [names.layer.format(number) for number in range(sizes.n_layers)]
        known |= {f"{layer}{part}.{end}" for layer in layers for part in parts for end in ends}
        check_unread((n for n in self._reader.names if n.removeprefix(self._prefix) not in known), self._prefix, head)

    def linear(self, layer: int, part: str, dtype: torch.dtype = torch.float32) -> Pair:
        """Weight [out, in] and bias [out]."""
        hidden, ffn = self._sizes.hidden_size, self._sizes.ffn_size
        n_out, n_in = ffn if part == "ffn_in" else hidden, ffn if part == "ffn_out" else hidden
        copy, name = self._reader.copy, self._place(layer, part)
        return copy(name + ".weight", (n_out, n_in), dtype), copy(name + ".bias", (n_out,), dtype)

    def _place(self, layer: int, part: str) -> str:
        return self._prefix + self._names.layer.format(layer) + str(getattr(self._names, part))

    def _norm(self, name: str) -> Pair:
        # Checkpoints that came from TensorFlow call the two gamma and beta.
        weight, bias = ("gamma", "beta") if f"{name}.gamma" in self._reader else ("weight", "bias")
        shape = (self._sizes.hidden_size,)
        return self._reader.copy(f"{name}.{weight}", shape), self._reader.copy(f"{name}.{bias}", shape)
