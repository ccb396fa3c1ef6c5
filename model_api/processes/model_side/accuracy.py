"""How far a model's answers in another precision are from those in float32, on given texts. Model side only.

scripts/precision calls it for an author's folder.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_api.errors import ModelApiError, Refused
from model_api.processes.model_side.checks import PROBE_LIMITS
from model_api.publishing.draft import draft
from model_api.repository.manifest import Manifest
from model_api.tasks import find_task

Rows = npt.NDArray[np.float64]
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
        return float(np.floor((1 - _ROOM * (1 - self.min_cosine)) * 1000) / 1000)


def compare(exact: Rows, other: Rows, precision: str, *, are_scores: bool) -> Accuracy:
    """`exact` and `other`: [texts, n], two texts or more, none of them all zero."""
    labels = int(np.count_nonzero(exact.argmax(1) != other.argmax(1))) if are_scores else None
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (exact, other))
    cosines = np.einsum("ij,ij->i", a, b)
    similar_a, similar_b = a @ a.T, b @ b.T
    pairs = np.triu_indices(len(a), 1)
    order = _rank_correlation(similar_a[pairs], similar_b[pairs])
    difference = float(np.abs(similar_a - similar_b)[pairs].max())
    np.fill_diagonal(similar_a, -np.inf)
    np.fill_diagonal(similar_b, -np.inf)
    nearest = int(np.count_nonzero(similar_a.argmax(1) != similar_b.argmax(1)))
    return Accuracy(precision, len(a), float(cosines.min()), float(cosines.mean()), difference, order, nearest, labels)


def _rank_correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    x, y = (values.argsort(kind="stable").argsort(kind="stable") - (len(values) - 1) / 2 for values in (a, b))
    return float(x @ y / (x @ x)) if len(a) > 1 else 1.0  # both are the same ranks, in another order


def measure(folder: Path, manifest: Manifest, texts: Sequence[str], precision: str) -> Accuracy:
    """Load the model twice and run `texts`. Raises Refused, also for a task without vectors, or where this machine
    can't compute in that precision."""
    task = find_task(manifest.task)
    if not task.compares_to_float32:
        raise Refused("manifest.json", f"task {manifest.task} has no precision to compare")
    web = task.open_web(folder, manifest, PROBE_LIMITS)
    prepared = web.prepare(texts, task.warm_parameters)

    def rows(asked: str) -> Rows:
        model = task.load_model(folder, manifest, asked)
        if model.precision_reason:
            raise Refused("", model.precision_reason)
        return np.stack(list(model.forward(prepared.arrays, prepared.parameters))).astype(np.float64)

    return compare(rows("float32"), rows(precision), precision, are_scores=manifest.task == "text-classification")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="precision", description="How far a model's answers in int8 (or bfloat16) are from those in float32."
    )
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("--texts", type=Path, required=True, metavar="FILE", help="two texts or more, one a line")
    parser.add_argument("--precision", choices=("int8", "bfloat16"), default="int8")
    parser.add_argument("--task", help="where the folder doesn't tell")
    given = parser.parse_args(arguments)
    try:
        texts = list(dict.fromkeys(filter(str.strip, given.texts.read_text(encoding="utf-8").splitlines())))
        if len(texts) < 2:
            raise Refused(str(given.texts), "must hold two texts or more, one a line")
        manifest = draft(given.folder, "measured", lambda done, total: None, given.task).manifest
        accuracy = measure(given.folder, manifest, texts, given.precision)
    except (ModelApiError, OSError, UnicodeDecodeError) as error:
        print(f"precision: {error}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(accuracy), indent=1))
    if accuracy.precision == "int8":
        print(f"publish with: --option precision=int8 --option int8_min_cosine={accuracy.suggested_bound()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
