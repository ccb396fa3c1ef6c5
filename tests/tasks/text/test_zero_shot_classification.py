"""Zero-shot classification: what is refused, what is cut, defaults of the author's. That it equals transformers'
pipeline is shown by the catalogue."""

from pathlib import Path
from typing import Any

import pytest

from model_api.errors import InvalidInput, Refused
from model_api.publishing.draft import draft
from tests.catalogue.building import change
from tests.catalogue.kinds_zero_shot import FAMILIES
from tests.rigs.asking import Asked

TASK = "zero-shot-classification"
LABELS = {"candidate_labels": ["a train", "the film"]}
LONG = "the train was not very good and " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    return folder


@pytest.fixture(scope="module")
def bert(folder: Path) -> Asked:
    return Asked(TASK, folder)


def test_scores_add_up_to_one_or_are_each_their_own(bert: Asked) -> None:
    (found,) = bert(["the film was good"], LABELS)
    assert found["sequence"] == "the film was good"
    assert sorted(found["labels"]) == sorted(LABELS["candidate_labels"])
    assert sum(found["scores"]) == pytest.approx(1)
    assert found["scores"] == sorted(found["scores"], reverse=True)
    (alone,) = bert(["the film was good"], {"candidate_labels": ["the film"]})
    (several,) = bert(["the film was good"], {**LABELS, "multi_label": True})
    by_label = dict(zip(several["labels"], several["scores"], strict=True))
    assert by_label["the film"] == pytest.approx(alone["scores"][0])


@pytest.mark.parametrize(
    ("parameters", "place", "why"),
    [
        ({}, "candidate_labels", "is missing"),
        ({"candidate_labels": None}, "candidate_labels", "is missing"),
        ({"candidate_labels": []}, "candidate_labels", "at least 1"),
        ({"candidate_labels": ["a"] * 501}, "candidate_labels", "at most 500"),
        ({"candidate_labels": "a, b"}, "candidate_labels", "list"),
        ({"candidate_labels": ["a", 3]}, "candidate_labels", "string"),
        ({"candidate_labels": ["a", ""]}, "candidate_labels/1", "empty"),
        ({"candidate_labels": ["a", " "]}, "candidate_labels/1", "empty"),
        ({"candidate_labels": ["x" * 501]}, "candidate_labels/0", "at most 500"),
        ({"candidate_labels": ["a", LONG]}, "candidate_labels/1", "no room"),
        ({**LABELS, "hypothesis_template": "This is it."}, "hypothesis_template", "must hold {} once"),
        ({**LABELS, "hypothesis_template": "{} {}"}, "hypothesis_template", "must hold {} once"),
        ({**LABELS, "hypothesis_template": "{0}"}, "hypothesis_template", "must hold {} once"),
        ({**LABELS, "hypothesis_template": "{:>9999999999}"}, "hypothesis_template", "must hold {} once"),
        ({**LABELS, "hypothesis_template": "{0.__class__} {}"}, "hypothesis_template", "no other braces"),
        ({**LABELS, "hypothesis_template": ""}, "hypothesis_template", "empty"),
        ({**LABELS, "hypothesis_template": "{}" + "x" * 1000}, "hypothesis_template", "at most 1000"),
        ({**LABELS, "multi_label": "yes"}, "multi_label", "true or false"),
        ({**LABELS, "multi_class": True}, "multi_class", "unknown parameter"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_parameters_that_name_no_labels(bert: Asked, parameters: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert(["the film was good"], parameters)
    assert refused.value.pointer == f"/parameters/{place}"


@pytest.mark.parametrize("one", [None, 3, "", ["a", "b"], {"text": "a"}, LONG])
def test_inputs_that_are_no_texts(bert: Asked, one: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        bert(["a", one], LABELS)
    assert refused.value.pointer == "/inputs/1"


def test_so_many_pairs_at_most(bert: Asked) -> None:
    with pytest.raises(InvalidInput, match="10,000 pairs") as refused:
        bert(["a"] * 101, {"candidate_labels": [str(i) for i in range(100)]})
    assert refused.value.pointer == "/parameters/candidate_labels"


def test_the_text_is_cut_never_the_label(bert: Asked) -> None:
    prepared = bert.web.prepare(["a", LONG], {**LABELS, "truncate": True})
    assert list(prepared.truncated) == [1]
    assert [row.shape[1] for row in prepared.arrays[2:]] == [64, 64]
    short, long = prepared.arrays[0], prepared.arrays[2]
    assert short[0][-8:].tolist() == long[0][-8:].tolist()


def test_an_author_may_name_labels_and_a_template(folder: Path) -> None:
    named = Asked(TASK, folder, candidate_labels=["a train", "the film"], hypothesis_template="about {}")
    plain = Asked(TASK, folder)
    assert named(["a day"]) == plain(["a day"], {**LABELS, "hypothesis_template": "about {}"})
    assert named(["a day"], {"candidate_labels": ["x"]})[0]["labels"] == ["x"]


def test_outputs_may_be_named_by_the_author(folder: Path, tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path)
    change("config.json", id2label={"0": "A", "1": "B", "2": "C"}, label2id={"A": 0, "B": 1, "C": 2})(tmp_path)
    with pytest.raises(Refused, match="--option labels="):
        Asked(TASK, tmp_path)
    with pytest.raises(Refused, match=r"its labels \(A, B, C\) don't say .* --option labels="):  # without any library
        draft(tmp_path, "m", lambda done, total: None, TASK)
    named = Asked(TASK, tmp_path, labels=["contradiction", "neutral", "entailment"])
    assert named(["a day"], LABELS) == Asked(TASK, folder)(["a day"], LABELS)
