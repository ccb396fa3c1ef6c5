"""How far a model's answers in another precision are from those in float32: figures that a manifest carries.

They are measured where a model is published (processes/model_side/accuracy.py), and told wherever it serves.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from model_api.repository.bounded_json import whole_number

_PRECISIONS = ("int8", "bfloat16")
_MAX_TEXTS = 10**6
_DIGITS = 6
# What is measured are some texts; callers' may fare a little worse.
_ROOM = 2.0


@dataclass(frozen=True)
class Accuracy:
    """Of vectors (or label scores), row by row, against those in float32."""

    precision: str
    texts: int
    min_cosine: float
    mean_cosine: float
    max_similarity_difference: float  # of the cosines between any two texts
    similarity_order: float  # Spearman's rank correlation of those cosines
    nearest_changed: int  # texts whose most similar other text is another one
    labels_changed: int | None  # texts whose best label is another one; None where rows aren't scores

    def suggested_bound(self) -> float:
        """An int8_min_cosine that leaves room for texts that weren't measured."""
        return math.floor((1 - _ROOM * (1 - self.min_cosine)) * 1000) / 1000

    def sentence(self) -> str:
        changed = f"{self.nearest_changed} of {self.texts} texts have another nearest one"
        if self.labels_changed is not None:
            changed = f"{self.labels_changed} of {self.texts} texts get another label"
        return (
            f"{self.precision} beside float32: cosine {self.min_cosine:.4f} at least, "
            f"{self.mean_cosine:.4f} on average; similarities differ by "
            f"{self.max_similarity_difference:.3f} at most; {changed}"
        )

    def to_document(self) -> dict[str, Any]:
        """As JSON carries it."""
        return {
            key: round(value, _DIGITS) if isinstance(value, float) else value for key, value in asdict(self).items()
        }


def parse_accuracy(raw: Mapping[str, Any]) -> Accuracy:
    """From its JSON form. Raises ValueError, KeyError, TypeError."""
    if raw["precision"] not in _PRECISIONS:
        raise ValueError(f"accuracy of {str(raw['precision'])[:80]!r}")
    texts = whole_number(raw["texts"], "texts", 2, _MAX_TEXTS)
    labels = raw["labels_changed"]
    return Accuracy(
        precision=raw["precision"],
        texts=texts,
        min_cosine=_number(raw, "min_cosine", -1, 1),
        mean_cosine=_number(raw, "mean_cosine", -1, 1),
        max_similarity_difference=_number(raw, "max_similarity_difference", 0, 2),
        similarity_order=_number(raw, "similarity_order", -1, 1),
        nearest_changed=whole_number(raw["nearest_changed"], "nearest_changed", 0, texts),
        labels_changed=None if labels is None else whole_number(labels, "labels_changed", 0, texts),
    )


def _number(raw: Mapping[str, Any], key: str, least: float, most: float) -> float:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{key} must be a number from {least:g} to {most:g}")
    return float(value)
