"""One packed model, and texts through it."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from int8_encoder._library import Sizes, checked, library

Floats = npt.NDArray[np.float32]
ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
POOLINGS = ("none", "mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken")
MATRICES = ("query", "key", "value", "projection", "up", "down")
NORMS = ("embedding", "attention", "ffn")
_ALIGNMENT_BYTES = 64
Matrix = Literal["query", "key", "value", "projection", "up", "down"]
NormName = Literal["embedding", "attention", "ffn"]


@dataclass(frozen=True)
class Shape:
    """The sizes of a BERT-like encoder (norms behind each block, absolute positions)."""

    hidden: int
    heads: int
    layers: int
    ffn: int
    vocabulary: int
    positions: int  # rows of the position table
    first_position: int = 0  # the row of a text's first token
    padding_id: int = -1  # a token that takes no position, as RoBERTa's; -1: none
    activation: str = "gelu"
    norm_eps: float = 1e-12

    def to_c(self) -> Sizes:
        """Raises ValueError for an activation that isn't known."""
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}")
        values = (self.hidden, self.heads, self.layers, self.ffn, self.vocabulary, self.positions)
        places = (self.first_position, self.padding_id, ACTIVATIONS.index(self.activation))
        return Sizes(*values, *places, self.norm_eps)


def variants() -> list[str]:
    """The kernels that this processor runs, best first. Empty where there is no library."""
    try:
        lib = library()
    except OSError:
        return []
    numbers = range(lib.int8_variant_count())
    return [lib.int8_variant_name(n).decode() for n in numbers if lib.int8_variant_runs_here(n)]


def best_variant() -> str | None:
    """What serving should use; None where only the portable kernels run, which are slower than any alternative."""
    names = variants()
    return names[0] if names and names[0] != "portable" else None


class PackedEncoder:
    """Weights in int8. After the last `set_`, never written to: forked processes share its pages, threads may share it.

    A text's answer is the same to the bit alone and in any batch, for one variant.
    """

    def __init__(self, shape: Shape, variant: str | None = None, buffer: Any = None) -> None:
        """`buffer`: writable memory for `packed_bytes(shape)` to use instead of its own, aligned to 64 bytes.

        Raises ValueError for impossible sizes, or a variant that doesn't run here; OSError without a library.
        """
        self._library = library()
        self.shape = shape
        name = variant or (variants() or ["portable"])[0]
        self.variant = name
        n_bytes = packed_bytes(shape)
        self._block = np.frombuffer(buffer, np.uint8) if buffer is not None else _aligned(n_bytes)
        count = self._library.int8_variant_count()
        names = [self._library.int8_variant_name(n).decode() for n in range(count)]
        number = names.index(name) if name in names else -1
        sizes = shape.to_c()
        checked(self._library.int8_create(*self._place, ctypes.addressof(sizes), number))
        self._words: npt.NDArray[Any] | None = None
        self._words_type = 0
        self._scratch = threading.local()

    @property
    def _place(self) -> tuple[int, int]:
        return self._block.ctypes.data, self._block.nbytes

    @property
    def n_bytes(self) -> int:
        """Of the packed weights, word table not included."""
        return self._block.nbytes

    def set_words(self, table: npt.NDArray[Any], *, bfloat16: bool = False) -> None:
        """[vocabulary, hidden] in float32, float16, or the bits of bfloat16 as uint16. Kept, not copied."""
        kinds = {np.dtype(np.float32): 0, np.dtype(np.float16): 1}
        kind = 2 if bfloat16 and table.dtype == np.uint16 else kinds.get(table.dtype)
        if kind is None or table.shape != (self.shape.vocabulary, self.shape.hidden) or not table.flags.c_contiguous:
            raise ValueError(f"a word table of {table.dtype} {table.shape}, not contiguous or not the model's")
        self._words, self._words_type = table, kind

    def set_positions(self, table: Floats) -> None:
        """[positions, hidden]; with the embedding of token type 0 added to every row."""
        table = _floats(table)
        checked(self._library.int8_set_positions(*self._place, table.ctypes.data, table.size))

    def set_norm(self, norm: NormName, weight: Floats, bias: Floats, layer: int = 0) -> None:
        weight, bias = _floats(weight), _floats(bias)
        if bias.size != weight.size:
            raise ValueError("weight and bias of a norm differ in length")
        number = NORMS.index(norm)
        pointers = weight.ctypes.data, bias.ctypes.data
        checked(self._library.int8_set_norm(*self._place, layer, number, *pointers, weight.size))

    def set_matrix(self, layer: int, matrix: Matrix, weight: Floats, bias: Floats) -> None:
        """`weight` [out, in] and `bias` [out], as stored: the query's scale is added here."""
        weight, bias = _floats(weight), _floats(bias)
        given = (weight.ctypes.data, weight.size, bias.ctypes.data, bias.size)
        checked(self._library.int8_set_matrix(*self._place, layer, MATRICES.index(matrix), *given))

    def forward(self, sequences: Sequence[npt.NDArray[np.int32]], pooling: str = "none") -> Floats:
        """[texts, hidden] pooled and not normalised, or with "none" all tokens' last states [tokens, hidden].

        Raises ValueError for a text without tokens or too long, an id outside of the vocabulary, an unknown pooling.
        """
        hidden = self.shape.hidden
        if pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {pooling!r}; known are {', '.join(POOLINGS)}")
        if not sequences:
            return np.empty((0, hidden), np.float32)
        if self._words is None:
            raise ValueError("no word table was given")
        ids = np.ascontiguousarray(np.concatenate(sequences), np.int32)
        lengths = np.fromiter(map(len, sequences), np.int32, len(sequences))
        out = np.empty((len(ids) if pooling == "none" else len(lengths), hidden), np.float32)
        scratch = self._scratch_for(len(ids), int(lengths.max()))
        checked(
            self._library.int8_forward(
                *self._place, self._words.ctypes.data, self._words.nbytes, self._words_type,
                ids.ctypes.data, ids.size, lengths.ctypes.data, lengths.size, POOLINGS.index(pooling),
                out.ctypes.data, out.size, scratch.ctypes.data, scratch.nbytes,
            )
        )  # fmt: skip
        return out

    def _scratch_for(self, tokens: int, longest: int) -> npt.NDArray[np.uint8]:
        """This thread's memory to compute in; it grows to what the largest call needed, which has a bound."""
        needed = checked(self._library.int8_scratch_bytes(*self._place, tokens, longest))
        have: npt.NDArray[np.uint8] | None = getattr(self._scratch, "block", None)
        if have is None or have.nbytes < needed:
            have = self._scratch.block = np.empty(needed, np.uint8)
        return have


def packed_bytes(shape: Shape) -> int:
    """Bytes of a packed model. Raises ValueError for impossible sizes."""
    sizes = shape.to_c()
    return checked(library().int8_model_bytes(ctypes.addressof(sizes)))


def _aligned(n_bytes: int) -> npt.NDArray[np.uint8]:
    block = np.empty(n_bytes + _ALIGNMENT_BYTES, np.uint8)
    start = -block.ctypes.data % _ALIGNMENT_BYTES
    return block[start : start + n_bytes]


def _floats(values: npt.NDArray[Any]) -> Floats:
    return np.ascontiguousarray(values, np.float32)
