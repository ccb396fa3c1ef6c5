"""What is measured of a prediction, and the 20 bins that each measure's values are counted in."""

import math
from collections.abc import Sequence

N_BINS = 20
ROUGE_AND_BLEU = {
    "rouge1": "rouge1",
    "rouge2": "rouge2",
    "rougeL": "rouge_l",
    "rougeLsum": "rouge_lsum",
    "bleu": "bleu",
}
# In this order everywhere. `all` is of every prediction, and its value is 0: only its count is of use.
MEASURES = (
    "all",
    "score",
    "correct",
    "rouge1",
    "rouge2",
    "rougeL",
    "rougeLsum",
    "bleu",
    "input_chars",
    "output_chars",
    "compression",
    "latency_ms",
)
_DOUBLING = {"input_chars": 1.0, "output_chars": 1.0, "latency_ms": 0.0625}  # where the second bin begins


def bin_of(measure: str, value: float) -> int:
    """Values below the first bin are counted in it, and those above the last in that."""
    first = _DOUBLING.get(measure)
    if first is None:
        return min(max(int(value * N_BINS), 0), N_BINS - 1)
    return 0 if value < first else min(int(math.log2(value / first)) + 1, N_BINS - 1)


def edges(measure: str) -> list[float]:
    """The N_BINS + 1 edges: of lengths and times each is twice the one before, of all others 0, 0.05 ... 1."""
    first = _DOUBLING.get(measure)
    if first is None:
        return [i / N_BINS for i in range(N_BINS + 1)]
    return [0.0, *(first * 2**i for i in range(N_BINS))]


def deviation(n: int, total: float, total_of_squares: float) -> float:
    """The standard deviation of the values themselves (not an estimate for more than these)."""
    mean = total / n
    return math.sqrt(max(0.0, total_of_squares / n - mean * mean))


def shift(now: Sequence[float], before: Sequence[float]) -> float:
    """The population stability index of two distributions over the same bins: 0 where they are alike; from 0.25 on
    they are commonly said to differ. Bins are taken to hold half an observation at least, so that it is finite."""
    n_now, n_before = sum(now), sum(before)
    index = 0.0
    for a, b in zip(now, before, strict=True):
        p, q = max(a, 0.5) / n_now, max(b, 0.5) / n_before
        if a or b:
            index += (p - q) * math.log(p / q)
    return index
