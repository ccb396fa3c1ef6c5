"""What another precision costs, measured."""

import json
import subprocess
from pathlib import Path

import int8_encoder
import numpy as np
import pytest

from model_api.processes.model_side.accuracy import compare, main, sample_texts
from tests.catalogue.kinds_token_classifiers import FAMILIES
from tests.needs import missing
from tests.rigs.models import minilm_folder, tiny_model
from tests.rigs.project import ROOT


def test_the_same_vectors_differ_in_nothing() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 8))
    same = compare(rows, 3 * rows, "int8", are_scores=False)
    assert (same.texts, same.nearest_changed, same.labels_changed) == (20, 0, None)
    assert min(same.min_cosine, same.mean_cosine, same.similarity_order) > 1 - 1e-9
    assert same.max_similarity_difference < 1e-9


def test_each_figure_tells_what_it_says() -> None:
    exact = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    turned = np.array([[1.0, 0.0], [0.1, 0.9], [0.0, 1.0]])  # the second now lies beside the third
    found = compare(exact, turned, "int8", are_scores=True)
    assert found.min_cosine == pytest.approx(0.18 / 0.82)
    assert found.mean_cosine == pytest.approx((2 + 0.18 / 0.82) / 3)
    assert found.max_similarity_difference == pytest.approx(0.8 / 0.82**0.5)
    assert found.nearest_changed == 1  # the second's; the others have it for the nearest before and after
    assert found.labels_changed == 1
    assert found.similarity_order < 1


def test_the_command_measures_a_folder(tmp_path: Path) -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    done = subprocess.run(
        [str(ROOT / "scripts/precision"), str(minilm_folder())], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    figures, advice = done.stdout.split("\npublish with: ")
    found = json.loads(figures)
    assert (found["precision"], found["texts"]) == ("int8", len(sample_texts()))
    assert 0.98 < found["min_cosine"] <= found["mean_cosine"] < 1
    assert advice.startswith("--option precision=int8 --option int8_min_cosine=0.9")


def test_a_model_that_answers_for_every_token_is_measured_on_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    FAMILIES["roberta"](tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    texts = tmp_path.with_suffix(".txt")
    texts.write_text("the film was good\nnot a bad day\n")
    assert main([str(tmp_path), "--texts", str(texts)]) == 0
    found = json.loads(capsys.readouterr().out.split("\npublish with: ")[0])
    assert found["texts"] > 10  # its tokens
    assert 0.9 < found["min_cosine"] < 1
    assert found["labels_changed"] is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_sample_texts_are_many_and_each_of_its_own() -> None:
    assert len(set(sample_texts())) == len(sample_texts()) > 50
    assert max(map(len, sample_texts())) > 300 > 3 > min(map(len, sample_texts()))


@pytest.mark.parametrize(
    ("lines", "message"),
    [("only one\n", "must hold two texts or more"), (None, "No such file"), (b"\xff\xfe", "can't decode")],
)
def test_what_it_cannot_measure_is_one_line(
    lines: str | bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.txt"
    if lines is not None:
        texts.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    assert main([str(tiny_model(tmp_path / "model", seed=1)), "--texts", str(texts)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
