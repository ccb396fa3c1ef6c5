"""How far a model's answers in another precision are from those in float32, on given texts. Model side only.

scripts/precision calls it for an author's folder, and load_check.py before a publish.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_api.errors import ModelApiError, Refused
from model_api.processes.model_side.checks import PROBE_LIMITS
from model_api.publishing.draft import draft
from model_api.publishing.load_check import lay_out
from model_api.repository.accuracy import Accuracy
from model_api.repository.manifest import Manifest
from model_api.tasks import find_task
from model_api.tasks.text.settled_tokenizer import settle

Rows = npt.NDArray[np.float64]
_MAX_TOKEN_ROWS = 1000  # all pairs of them are compared
_SAMPLE_TEXTS = Path(__file__).with_name("sample_texts.txt")


def sample_texts() -> list[str]:
    """Short and long ones, of many kinds and a dozen languages."""
    return _SAMPLE_TEXTS.read_text("utf-8").splitlines()


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
        return _stacked(list(model.forward(prepared.arrays, prepared.parameters)))

    are_scores = manifest.task in ("text-classification", "token-classification")
    return compare(rows("float32"), rows(precision), precision, are_scores=are_scores)


def _stacked(outputs: Sequence[npt.NDArray[Any]]) -> Rows:
    """[texts, n], or of outputs [length, n] that answer for every token, the tokens of all texts; not all of them."""
    if outputs[0].ndim == 1:
        return np.stack(outputs).astype(np.float64)
    rows = np.concatenate(outputs).astype(np.float64)
    return rows[:: max(1, len(rows) // _MAX_TOKEN_ROWS)]


def _read_texts(file: Path) -> list[str]:
    texts = list(dict.fromkeys(filter(str.strip, file.read_text(encoding="utf-8").splitlines())))
    if len(texts) < 2:
        raise Refused(str(file), "must hold two texts or more, one a line")
    return texts


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="precision", description="How far a model's answers in int8 (or bfloat16) are from those in float32."
    )
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="two texts or more, one a line; default: built-in ones"
    )
    parser.add_argument("--precision", choices=("int8", "bfloat16"), default="int8")
    parser.add_argument("--task", help="where the folder doesn't tell")
    given = parser.parse_args(arguments)
    try:
        texts = _read_texts(given.texts) if given.texts else sample_texts()
        made = draft(given.folder, "measured", lambda done, total: None, given.task)
        with tempfile.TemporaryDirectory(prefix="model-api-precision-") as scratch:
            folder = Path(scratch) / "model"
            lay_out(made, folder)  # what is written down for a load must not lie in the author's folder
            settle(folder)
            find_task(made.manifest.task).settle(folder)
            accuracy = measure(folder, made.manifest, texts, given.precision)
    except (ModelApiError, OSError, UnicodeDecodeError) as error:
        print(f"precision: {error}", file=sys.stderr)
        return 1
    print(json.dumps(accuracy.to_document(), indent=1))
    if accuracy.precision == "int8":
        print(f"publish with: --option precision=int8 --option int8_min_cosine={accuracy.suggested_bound()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
