"""Fit the polynomials of src/activation.h and print them: least maximum error, by reweighted least squares.

Needs numpy alone. Run it by hand: python native/fit_polynomials.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CLAMP = 4.0
GELU_DEGREE = 7
EXP_DEGREE = 5


def phi_erf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def phi_tanh(x: float) -> float:
    return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def least_maximum(basis: Array, target: Array, rounds: int = 400) -> tuple[Array, float]:
    """Coefficients of `basis` whose largest error is about the least (Lawson's iteration), and that error."""
    weights = np.ones(len(target))
    for _ in range(rounds):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(basis * root[:, None], target * root)[0]
        error = np.abs(basis @ coefficients - target)
        weights *= error / error.max() + 1e-3
        weights /= weights.mean()
    return coefficients, float(error.max())


def fit_gelu(phi: Callable[[float], float]) -> tuple[Array, float]:
    """P with x * (1/2 + x * P(x^2)) ~ x * phi(x) on [0, CLAMP]."""
    x = np.linspace(1e-3, CLAMP, 4001)
    scaled = 2 * x * x / CLAMP**2 - 1  # Chebyshev's interval, or the system is too ill-conditioned
    chebyshev = np.polynomial.chebyshev.chebvander(scaled, GELU_DEGREE)
    target = x * (np.array([phi(float(v)) for v in x]) - 0.5)
    coefficients, error = least_maximum(chebyshev * (x * x)[:, None], target)
    outer = np.polynomial.Polynomial(np.polynomial.chebyshev.cheb2poly(coefficients))
    return outer(np.polynomial.Polynomial([-1, 2 / CLAMP**2])).coef, error


def fit_power_of_2() -> tuple[Array, float]:
    """P(f) ~ 2^f on [-1/2, 1/2], least relative error."""
    f = np.cos(np.linspace(0, np.pi, 2001)) / 2
    basis = np.vander(f, EXP_DEGREE + 1, increasing=True) / (2.0**f)[:, None]
    return least_maximum(basis, np.ones_like(f))


if __name__ == "__main__":
    for name, (coefficients, error) in {
        "GELU_ERF": fit_gelu(phi_erf),
        "GELU_BY_TANH": fit_gelu(phi_tanh),
        "power_of_2": fit_power_of_2(),
    }.items():
        print(name, ", ".join(f"{c:.9e}f" for c in coefficients), f"largest error {error:.1e}")
