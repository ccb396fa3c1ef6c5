"""Linear layers with weights prepacked for this processor, in float32 or bfloat16.

oneDNN's prepacked operators are private to torch (so torch is pinned): they are tried once per precision on a small
case and left alone if they are absent or wrong. Every row's result is independent, to the bit, of how many rows are
computed with it: `MIN_ROWS` is what that takes (see docs/adr/0002-padding-free-encoder.md). Model side only.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

# Below this many rows some kernels add up in another order (one row becomes a matrix-vector product).
MIN_ROWS = 4


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
        rows = x.shape[0]
        if rows < MIN_ROWS:
            x = torch.cat([x, x.new_zeros(MIN_ROWS - rows, x.shape[1])])
            if residual is not None:
                residual = torch.cat([residual, residual.new_zeros(MIN_ROWS - rows, residual.shape[1])])
            return self._compute(x, residual)[:rows]
        return self._compute(x, residual)

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
