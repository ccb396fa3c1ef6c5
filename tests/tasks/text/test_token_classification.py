"""Token classification: what is refused, windows, precisions, and a tokenizer that runs elsewhere. That it equals
transformers' pipeline is shown by the catalogue."""

import itertools
from pathlib import Path
from typing import Any

import int8_encoder
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from model_api.errors import InvalidInput, Refused
from model_api.publishing.draft import draft
from model_api.tasks.text.encoding import LocalEncoder
from model_api.tasks.text.entities import without_overlaps
from model_api.tasks.text.windows import MAX_WINDOWS, windows_of
from tests.catalogue.building import change
from tests.catalogue.kinds_token_classifiers import FAMILIES
from tests.needs import missing
from tests.processes.test_encoding_process import Started
from tests.rigs.asking import Asked

TASK = "token-classification"
TEXTS = ["The film was good", "Schön, naïve café in 東京", "not a day"]
LONG = "the train was not very good and " * 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    return Asked(TASK, folder)


def test_places_are_those_of_the_text(bert: Asked) -> None:
    for how in ("none", "simple", "first", "average", "max"):
        for text, found in zip(TEXTS, bert(TEXTS, {"aggregation_strategy": how, "ignore_labels": []}), strict=True):
            assert found
            assert all(0 <= one["start"] < one["end"] <= len(text) for one in found)
            starts = [one["start"] for one in found]
            assert starts == sorted(starts)
    (tokens,) = bert(TEXTS[:1], {"ignore_labels": []})
    assert [TEXTS[0][one["start"] : one["end"]] for one in tokens] == ["The", "film", "was", "good"]
    assert [one["index"] for one in tokens] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("inputs", "pointer", "why"),
    [
        ([{"text": "a"}], "/inputs/0", "must be a string"),
        (["a", ["b"]], "/inputs/1", "must be a string"),
        (["a", None], "/inputs/1", "must be a string"),
        (["a", ""], "/inputs/1", "empty"),
        (["\u200b"], "/inputs/0", "empty but for"),
        (["a", LONG], "/inputs/1", 'a "stride" for windows'),
        (["x" * 5001], "/inputs/0", "at most 5000"),
    ],
)
def test_inputs_that_are_no_texts(bert: Asked, inputs: list[Any], pointer: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert(inputs)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    ("parameters", "name", "why"),
    [
        ({"aggregation_strategy": "mean"}, "aggregation_strategy", "one of none, simple, first, average, max"),
        ({"aggregation_strategy": None}, "aggregation_strategy", "one of"),
        ({"ignore_labels": "O"}, "ignore_labels", "list"),
        ({"ignore_labels": [1]}, "ignore_labels", "string"),
        ({"ignore_labels": ["O"] * 1001}, "ignore_labels", "at most 1000"),
        ({"stride": 8}, "stride", "needs an aggregation_strategy"),
        ({"stride": -1, "aggregation_strategy": "simple"}, "stride", "between 0 and"),
        ({"stride": 62, "aggregation_strategy": "simple"}, "stride", "less than 62"),
        ({"strid": 8}, "strid", "unknown parameter"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(bert: Asked, parameters: dict[str, Any], name: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert([LONG], parameters)
    assert refused.value.pointer == f"/parameters/{name}"


def test_what_was_cut_is_told_and_windows_cut_nothing(bert: Asked) -> None:
    assert list(bert.web.prepare(["a", LONG], {"truncate": True}).truncated) == [1]
    how = {"aggregation_strategy": "first", "stride": 20, "ignore_labels": []}
    prepared = bert.web.prepare(["a", LONG], how)
    assert list(prepared.truncated) == []
    assert max(len(row) for row in prepared.arrays) == 64
    found = bert([LONG], how)[0]
    assert found[-1]["end"] == len(LONG.rstrip())
    assert all(a["end"] <= b["start"] for a, b in itertools.pairwise(found))


def test_a_request_has_so_many_windows_at_most(bert: Asked) -> None:
    text = "a " * 2499
    n_windows = len(windows_of(2499, 62, 61))
    fitting = MAX_WINDOWS // n_windows
    with pytest.raises(InvalidInput, match="windows") as refused:
        bert([text] * (fitting + 1), {"aggregation_strategy": "simple", "stride": 61})
    assert refused.value.pointer == f"/inputs/{fitting}"


@given(st.integers(1, 300), st.integers(1, 40), st.data())
@settings(max_examples=200, deadline=None)
def test_windows_are_the_tokenizers_librarys(count: int, size: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(0, size - 1))
    made = _letters().encode("a " * count)
    made.truncate(size, stride=stride)
    lengths = [len(one.ids) for one in (made, *made.overflowing)]
    spans = windows_of(count, size, stride)
    assert [end - start for start, end in spans] == lengths
    assert spans[-1][1] == count


def _letters() -> Tokenizer:
    from tokenizers import models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_of_what_overlaps_the_longest_stays_and_of_equals_the_surest() -> None:
    def one(start: int, end: int, score: float) -> dict[str, Any]:
        return {"start": start, "end": end, "score": score}

    assert without_overlaps([]) == []
    found = without_overlaps([one(5, 9, 0.2), one(0, 6, 0.1), one(10, 12, 0.3), one(10, 12, 0.5), one(11, 12, 0.9)])
    assert found == [one(0, 6, 0.1), one(10, 12, 0.5)]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_tokenizer_that_runs_elsewhere_changes_nothing(family: str, tmp_path: Path) -> None:
    FAMILIES[family](tmp_path)
    started = Started(LocalEncoder(tmp_path))
    started.start()
    try:
        apart, here = Asked(TASK, tmp_path, encoder=started.process), Asked(TASK, tmp_path)
        for how in ("none", "simple", "average"):
            parameters: dict[str, Any] = {"aggregation_strategy": how, "ignore_labels": [], "truncate": True}
            assert apart([*TEXTS, LONG], parameters) == here([*TEXTS, LONG], parameters)
        assert started.process.ids_of(["the", "film", "no such"]) == LocalEncoder(tmp_path).ids_of(
            ["the", "film", "no such"]
        )
    finally:
        started.end()


def test_the_same_to_the_bit_alone_and_in_a_batch(bert: Asked) -> None:
    arrays = bert.web.prepare([*TEXTS, LONG], {"truncate": True}).arrays
    for array, together in zip(arrays, bert.model.forward(arrays, {}), strict=True):
        assert bert.model.forward([array], {})[0].tobytes() == together.tobytes()
    assert bert.model.forward([], {}) == []


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_other_precisions_are_near(family: str, precision: str, tmp_path: Path) -> None:
    if precision == "int8" and int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    FAMILIES[family](tmp_path)
    exact, near = Asked(TASK, tmp_path), Asked(TASK, tmp_path, precision)
    assert near.model.precision == precision
    arrays = exact.web.prepare([*TEXTS, LONG], {"truncate": True}).arrays
    for a, b in zip(exact.model.forward(arrays, {}), near.model.forward(arrays, {}), strict=True):
        assert a.shape == b.shape
        assert a.ravel() @ b.ravel() / np.linalg.norm(a) / np.linalg.norm(b) > 0.98


def test_labels_are_wanted_from_somewhere(tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path)
    change("config.json", id2label=...)(tmp_path)
    with pytest.raises(Refused, match="--option labels="):
        Asked(TASK, tmp_path)
    with pytest.raises(Refused, match="--option labels="):  # without any library
        draft(tmp_path, "m", lambda done, total: None)
    named = Asked(TASK, tmp_path, labels=["O", "A", "B", "C", "D"], aggregation_strategy="simple")
    assert {one["entity_group"] for one in named(TEXTS, {"ignore_labels": []})[0]} <= {"O", "A", "B", "C", "D"}
    misfit = Asked(TASK, tmp_path, labels=["O", "A"])
    with pytest.raises(Refused, match=r"classifier\.weight"):
        misfit(TEXTS)


def test_so_many_labels_at_most(tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path)
    change("config.json", id2label={str(i): f"label {i}" for i in range(2001)})(tmp_path)
    with pytest.raises(Refused, match="2001 labels for every token"):
        Asked(TASK, tmp_path)


def test_a_default_that_no_caller_could_send_is_refused(bert: Asked, tmp_path: Path) -> None:
    FAMILIES["bert"](tmp_path)
    with pytest.raises(Refused, match="default"):
        Asked(TASK, tmp_path, aggregation_strategy="best")
