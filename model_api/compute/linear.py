"""Linear layers with weights prepacked for this processor, in float32 or bfloat16.

oneDNN's prepacked operators are private to torch (so torch is pinned): they are tried once per precision on a small
case and left alone if they are absent or wrong. Model side only.

Two properties are paid for here (figures in docs/adr/0002-padding-free-encoder.md):
- A row's result is the same to the bit however many rows are computed with it. One to three rows take other kernels.
- oneDNN compiles code for every number of rows that it meets: about a millisecond and a megabyte each. So only the
  numbers in ROW_COUNTS are ever computed.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

MAX_ROWS = 512  # more is no faster
ROW_COUNTS = (*range(4, 32, 4), *range(32, 64, 8), *range(64, MAX_ROWS + 1, 16))


@lru_cache(4096)
def row_spans(rows: int) -> list[tuple[int, int]]:
    """(start, end) that cover `rows` rows or a little more, each of a length in ROW_COUNTS, none much the smallest."""
    if rows <= MAX_ROWS:
        return [(0, next(count for count in ROW_COUNTS if count >= rows))]
    sixteens = -(-rows // 16)
    n_spans = -(-rows // MAX_ROWS)
    edges = [sixteens * i // n_spans * 16 for i in range(n_spans + 1)]
    return list(pairwise(edges))


class Linear:
    """y = activation(x Wᵀ + b) or, with `residual`, x Wᵀ + b + residual. x is [rows, in], y is [rows, out]."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor,
        activation: tuple[str, str] = ("none", ""),
        *,
        prepack: bool = True,
    ) -> None:
        """`weight` [out, in] and `bias` [out] share a dtype; neither is kept when prepacked, so drop them."""
        self._bias = bias
        self._activation, self._algorithm = activation
        self._packed = prepack and prepacking_works(weight.dtype)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._packed else weight

    def __call__(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """Any number of rows; those in ROW_COUNTS are computed without a copy."""
        rows = x.shape[0]
        spans = row_spans(rows)
        if spans == [(0, rows)]:
            return self._compute(x, residual)
        padding = spans[-1][1] - rows
        x = F.pad(x, (0, 0, 0, padding))
        if residual is not None:
            residual = F.pad(residual, (0, 0, 0, padding))
        parts = [self._compute(x[a:b], None if residual is None else residual[a:b]) for a, b in spans]
        return torch.cat(parts)[:rows]

    def _compute(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        y: torch.Tensor
        if self._packed:
            operator = torch.ops.mkldnn._linear_pointwise
            if residual is not None:
                y = operator.binary(x, residual, self._weight, self._bias, "add")
            else:
                y = operator(x, self._weight, self._bias, self._activation, [], self._algorithm)
            return y
        y = F.linear(x, self._weight, self._bias)
        if residual is not None:
            return y + residual
        if self._activation == "gelu":
            return F.gelu(y, approximate=self._algorithm)
        return F.relu(y) if self._activation == "relu" else y


@cache
def prepacking_works(dtype: torch.dtype) -> bool:
    """Whether this torch on this processor has the prepacked operators, and they give the right answer."""
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(7, 96, generator=generator), torch.randn(48, 96, generator=generator) / 8
    bias, residual = torch.randn(48, generator=generator), torch.randn(7, 48, generator=generator)
    x, weight, bias, residual = (t.to(dtype) for t in (x, weight, bias, residual))
    exact = F.linear(x.double(), weight.double(), bias.double())
    expected = [F.gelu(exact), F.gelu(exact, approximate="tanh"), F.relu(exact), exact, exact + residual.double()]
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        operator = torch.ops.mkldnn._linear_pointwise
        answers = [
            operator(x, packed, bias, activation, [], algorithm)
            for activation, algorithm in (("gelu", "none"), ("gelu", "tanh"), ("relu", ""), ("none", ""))
        ]
        answers.append(operator.binary(x, residual, packed, bias, "add"))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
    return all(
        torch.allclose(a.double(), e, rtol=tolerance, atol=tolerance) for a, e in zip(answers, expected, strict=True)
    )
