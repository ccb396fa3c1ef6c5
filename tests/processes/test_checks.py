"""The checks that a loaded model must pass before it serves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model_api.errors import ProbeFailed, Refused
from model_api.processes.model_side.checks import compare_to_float32, cosine, first_difference, run_probe, warm
from model_api.repository.manifest import FileEntry, Manifest, Probe
from model_api.tasks.contract import Array, Limits
from model_api.tasks.text.embedding import TASK
from tests.rigs.models import tiny_model

LIMITS = Limits(10_000)


def manifest() -> Manifest:
    return Manifest("tiny", "1", "embedding", (FileEntry("config.json", 1, "0" * 64),), 0)


class Broken:
    """A model that answers NaN."""

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return [np.full(4, np.nan, dtype=np.float32) for _ in arrays]


def test_a_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    web = TASK.open_web(tiny_model(tmp_path, seed=1), manifest(), LIMITS)
    with pytest.raises(ProbeFailed, match="NaN"):
        warm(Broken(), web.prepare(TASK.warm_inputs, TASK.warm_parameters))


def test_probes_compare_with_what_the_author_saw(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, seed=1)
    web, model = TASK.open_web(folder, manifest(), LIMITS), TASK.load_model(folder, manifest(), "float32")
    prepared = web.prepare(["the cat"], {})
    seen = [vector.tolist() for vector in web.finish(prepared, list(model.forward(prepared.arrays, {})))]
    run_probe(model, web, Probe(("the cat",), tuple(seen), tolerance=1e-6), 0)
    seen[0][3] += 0.5
    with pytest.raises(ProbeFailed, match=r"probe 2, input 0: output\[3\]"):
        run_probe(model, web, Probe(("the cat",), tuple(seen), tolerance=1e-2), 2)


def test_rows_that_point_elsewhere_than_float32_are_refused() -> None:
    row = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    compare_to_float32([row, row * 2], [row, row], "bfloat16", {})
    with pytest.raises(ProbeFailed, match=r"cosine.*--option precision=float32"):
        compare_to_float32([row, -row], [row, row], "bfloat16", {})
    with pytest.raises(ProbeFailed):
        compare_to_float32([row * np.nan], [row], "int8", {})


def test_int8_may_differ_more_than_bfloat16_and_an_author_sets_how_much() -> None:
    row = np.array([1.0, 2.0, 3.0], dtype=np.float32)
    near = row + np.array([0.3, -0.3, 0.0], dtype=np.float32)  # cosine .994
    compare_to_float32([near], [row], "int8", {})
    with pytest.raises(ProbeFailed):
        compare_to_float32([near], [row], "bfloat16", {"int8_min_cosine": 0.5})
    with pytest.raises(ProbeFailed, match=r"int8 differs .* below 0\.999"):
        compare_to_float32([near], [row], "int8", {"int8_min_cosine": 0.999})
    for senseless in (1.5, "high", True, float("nan")):
        with pytest.raises(Refused, match="int8_min_cosine"):
            compare_to_float32([row], [row], "int8", {"int8_min_cosine": senseless})


def test_cosine_of_zero_rows() -> None:
    zero = np.zeros(3, dtype=np.float32)
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, zero + 1) == 0.0


@pytest.mark.parametrize(
    "got, wanted, place",
    [
        ({"label": "a", "score": 0.9}, {"label": "a", "score": 0.905}, None),
        ({"label": "a", "score": 0.9}, {"label": "b", "score": 0.9}, "output.label"),
        ({"label": "a", "score": 0.9}, {"label": "a", "score": 0.7}, "output.score"),
        ({"label": "a"}, {"label": "a", "score": 0.7}, "output"),
        ([1, 2, 3], [1, 2], "output"),
        ([1, 2, 3], [1, 2, 4], "output[2]"),
        ([np.array([1.0, 2.0])], [[1.0, 2.0]], None),
        (True, 1, "output"),
        ("text", "text", None),
        (1.0, "1.0", "output"),
        (float("nan"), 1.0, "output"),
    ],
)
def test_differences_are_found_and_placed(got: Any, wanted: Any, place: str | None) -> None:
    found = first_difference(got, wanted, tolerance=0.01)
    assert (found is None) if place is None else found is not None
    if place is not None and found is not None:
        assert found.split(" ")[0] == place
