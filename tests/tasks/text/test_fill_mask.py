"""Filling masks: what is refused, the caller's own word for the mask, targets, precisions. That it equals transformers'
pipeline is shown by the catalogue."""

from pathlib import Path
from typing import Any

import int8_encoder
import numpy as np
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from model_api.errors import InvalidInput
from model_api.tasks.text.encoding import LocalEncoder
from model_api.tasks.text.fill_mask import clean_up
from tests.catalogue.kinds_fill_mask import FAMILIES
from tests.needs import missing
from tests.processes.test_encoding_process import Started
from tests.rigs.asking import Asked

TASK = "fill-mask"
LONG = "the train was not very good and " * 12


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    return Asked(TASK, folder)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        ("the film was good", "holds no mask: write '\\[MASK\\]'"),
        ("the <mask> was good", "holds no mask"),
        ("the [MASK] was [MASK]", "more than one mask"),
        ("", "empty"),
        (3, "must be a string"),
        (["a [MASK]"], "must be a string"),
        (LONG + "[MASK]", "the model takes 64"),
        ("[MASK] " * 500, "the model takes 64"),
        ("[MASK]" + "x" * 5000, "at most 5000"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_text_has_one_mask(bert: Asked, one: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert(["a [MASK]", one])
    assert refused.value.pointer == "/inputs/1"


def test_a_mask_that_was_cut_off_is_told(bert: Asked) -> None:
    with pytest.raises(InvalidInput, match="in the 64 tokens kept") as refused:
        bert(["a [MASK]", LONG + "[MASK]"], {"truncate": True})
    assert refused.value.pointer == "/inputs/1"
    assert len(bert(["a [MASK] " + LONG], {"truncate": True})[0]) == 5


def test_a_caller_may_have_a_word_of_its_own_for_the_mask(bert: Asked) -> None:
    assert bert(["the ___ day"], {"mask": "___"}) == bert(["the [MASK] day"])
    for text, why in (("the day", "'___'"), ("___ and ___", "more than one"), ("___ and [MASK]", "more than one")):
        with pytest.raises(InvalidInput, match=why) as refused:
            bert(["the ___ day", text], {"mask": "___"})
        assert refused.value.pointer == "/inputs/1"


@pytest.mark.parametrize(
    ("parameters", "place", "why"),
    [
        ({"top_k": 0}, "top_k", "between 1 and 1000"),
        ({"top_k": 1001}, "top_k", "between 1 and 1000"),
        ({"top_k": "5"}, "top_k", "an integer"),
        ({"targets": []}, "targets", "at least 1"),
        ({"targets": ["a"] * 1001}, "targets", "at most 1000"),
        ({"targets": "day"}, "targets", "list"),
        ({"targets": ["day", 3]}, "targets", "string"),
        ({"targets": ["day", ""]}, "targets/1", "empty"),
        ({"targets": ["day", "\u200b"]}, "targets/1", "empty but for"),
        ({"targets": ["x" * 201]}, "targets/0", "at most 200"),
        ({"mask": ""}, "mask", "at least 1"),
        ({"mask": "_" * 101}, "mask", "at most 100"),
        ({"topk": 5}, "topk", "unknown parameter"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_parameters_that_make_no_sense(bert: Asked, parameters: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as refused:
        bert(["the [MASK] day"], parameters)
    assert refused.value.pointer == f"/parameters/{place}"


def test_so_many_tokens_are_shown_at_most(bert: Asked) -> None:
    with pytest.raises(InvalidInput, match="at most 5,000 are shown") as refused:
        bert(["a [MASK]"] * 6, {"top_k": 1000})
    assert refused.value.pointer == "/parameters/top_k"
    (found,) = bert(["a [MASK]"], {"top_k": 1000})
    assert len(found) == len({one["token"] for one in found}) < 1000
    assert sum(one["score"] for one in found) == pytest.approx(1, abs=1e-4)


def test_targets_are_ranked_among_the_whole_vocabulary(bert: Asked) -> None:
    (whole,) = bert(["the [MASK] day"], {"top_k": 1000})
    (found,) = bert(["the [MASK] day"], {"targets": ["train", "film", "train"]})
    scores = {one["token"]: one["score"] for one in whole}
    assert [one["token_str"] for one in found] in (["train", "film"], ["film", "train"])
    assert all(one["score"] == pytest.approx(scores[one["token"]], abs=1e-7) for one in found)


@given(st.text(" .?!,'nmtsvera", max_size=40))
@settings(max_examples=300, deadline=None)
def test_spaces_before_punctuation_are_taken_out_as_the_library_does(text: str) -> None:
    assert clean_up(text) == transformers.PreTrainedTokenizerBase.clean_up_tokenization(None, text)


def test_a_tokenizer_that_runs_elsewhere_changes_nothing(tmp_path: Path) -> None:
    FAMILIES["roberta"](tmp_path)
    started = Started(LocalEncoder(tmp_path))
    started.start()
    try:
        apart, here = Asked(TASK, tmp_path, encoder=started.process), Asked(TASK, tmp_path)
        for parameters in ({"mask": "_"}, {"mask": "_", "targets": ["train", "the"]}):
            assert apart(["the _ was good"], parameters) == here(["the _ was good"], parameters)
    finally:
        started.end()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_other_precisions_are_near(family: str, precision: str, tmp_path: Path) -> None:
    if precision == "int8" and int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")
    FAMILIES[family](tmp_path)
    exact, near = Asked(TASK, tmp_path), Asked(TASK, tmp_path, precision)
    assert near.model.precision == precision
    prepared = exact.web.prepare(exact.task.warm_inputs, exact.task.warm_parameters)
    answers = [list(asked.model.forward(prepared.arrays, prepared.parameters)) for asked in (exact, near)]
    for a, b in zip(*answers, strict=True):
        assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.98


def test_the_same_to_the_bit_alone_and_in_a_batch(bert: Asked) -> None:
    prepared = bert.web.prepare(["the [MASK] day", "a [MASK]", "[MASK] " + LONG], {"truncate": True, "top_k": 50})
    for array, together in zip(prepared.arrays, bert.model.forward(prepared.arrays, prepared.parameters), strict=True):
        assert bert.model.forward([array], prepared.parameters)[0].tobytes() == together.tobytes()
