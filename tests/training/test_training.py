import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from scripts.training.dataset import (
    DATASET,
    LABELS,
    Example,
    bag_of_words_accuracy,
    load_examples,
    majority_accuracy,
)
from scripts.training.tracking import record_run


def test_the_set_is_what_its_documentation_says() -> None:
    train, test = load_examples()
    assert (len(train), len(test)) == (696, 174)
    for examples, n_each in ((train, 232), (test, 58)):
        assert Counter(e.label for e in examples) == dict.fromkeys(range(len(LABELS)), n_each)
    texts = [e.text for e in train + test]
    assert len(set(texts)) == len(texts)


def test_the_split_is_by_the_texts_hashes() -> None:
    rows = [json.loads(line) for line in DATASET.read_text().splitlines()]
    for label in LABELS:
        ordered = sorted(
            (row for row in rows if row["label"] == label),
            key=lambda row: hashlib.sha256(row["text"].encode()).digest(),
        )
        assert [row["split"] for row in ordered] == ["test"] * 58 + ["train"] * 232


def test_the_baselines() -> None:
    train = [Example("good good", 2, "train"), Example("bad bad", 0, "train"), Example("bad day", 0, "train")]
    test = [Example("good day", 2, "test"), Example("bad", 0, "test"), Example("good", 2, "test")]
    assert majority_accuracy(train, test) == pytest.approx(1 / 3)
    assert bag_of_words_accuracy(train, test) == 1.0


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    for bad in ("{", '{"text": "a", "label": "angry", "split": "train"}', '{"text": "a", "label": "neutral"}'):
        path.write_text('{"text": "a", "label": "neutral", "split": "test"}\n' + bad + "\n")
        with pytest.raises(ValueError, match=r"set\.jsonl, line 2"):
            load_examples(path)


def test_a_run_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    where = record_run({"epochs": 4}, {"test_accuracy": 0.9}, tmp_path / "run.json")
    assert where.startswith(str(tmp_path / "run.json"))
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "parameters": {"epochs": 4},
        "metrics": {"test_accuracy": 0.9},
    }
