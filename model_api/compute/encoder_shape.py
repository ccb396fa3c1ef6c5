"""What of an encoder decides which code oneDNN compiles for it. Model side only: imports torch.

Models of one shape need the same code, whatever their weights and however many layers: some 110 MB and a third of a
second for any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from model_api.compute.architectures import Architecture
from model_api.compute.attention import LONG_STEP_TOKENS, SHORT_LENGTHS, attend, groups_of
from model_api.compute.linear import ROW_COUNTS, Linear

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_warmed: set[EncoderShape] = set()  # in this process, or in one that it was forked from


@dataclass(frozen=True)
class EncoderShape:
    """Of the padding-free encoder in float32 or bfloat16."""

    hidden_size: int
    ffn_size: int
    n_heads: int
    max_tokens: int
    activation: tuple[str, str]
    precision: str

    @classmethod
    def of(cls, architecture: Architecture, precision: str) -> EncoderShape:
        sizes = architecture
        return cls(sizes.hidden_size, sizes.ffn_size, sizes.n_heads, sizes.max_tokens, sizes.activation, precision)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> EncoderShape:
        """Of vars(shape) that went through JSON."""
        first, second = message["activation"]
        return cls(**{**message, "activation": (first, second)})

    @property
    def layer_weights(self) -> int:
        """How many numbers the matrices of one layer hold."""
        return self.hidden_size * (4 * self.hidden_size + 2 * self.ffn_size)

    def warm(self) -> None:
        """Have oneDNN compile its code for every size, once; processes that are forked afterwards share it."""
        if self in _warmed:
            return
        hidden, ffn, dtype = self.hidden_size, self.ffn_size, DTYPES[self.precision]
        with torch.inference_mode():
            qkv, out = _linear(3 * hidden, hidden, dtype), _linear(hidden, hidden, dtype)
            ffn_in, ffn_out = _linear(ffn, hidden, dtype, self.activation), _linear(hidden, ffn, dtype)
            for rows in ROW_COUNTS:
                x = torch.zeros(rows, hidden, dtype=dtype)
                qkv(x)
                ffn_out(ffn_in(out(x, x)), x)
            for length in range(SHORT_LENGTHS[-1] + 1, self.max_tokens + LONG_STEP_TOKENS, LONG_STEP_TOKENS):
                attend(torch.zeros(length, 3 * hidden, dtype=dtype), groups_of([length]), self.n_heads)
        _warmed.add(self)


def _linear(n_out: int, n_in: int, dtype: torch.dtype, activation: tuple[str, str] = ("none", "")) -> Linear:
    return Linear(torch.zeros(n_out, n_in, dtype=dtype), torch.zeros(n_out, dtype=dtype), activation)
