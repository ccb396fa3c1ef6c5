"""Pairs of texts: their forms, what is wrong with them, where special tokens stand; and int8, which takes no types."""

import json
import shutil
from pathlib import Path
from typing import Any

import int8_encoder
import numpy as np
import pytest
import transformers

from model_api.errors import InvalidInput, Refused
from model_api.repository.manifest import FileEntry, Manifest
from model_api.tasks.contract import Limits
from model_api.tasks.options import read_options
from model_api.tasks.text import pair_frame
from model_api.tasks.text.pair_frame import has_frame, read_frame, write_frame
from model_api.tasks.text.pairs import PairTokenizer, TextPair
from model_api.tasks.text.text_classification import TASK
from model_api.tasks.text.tokenization import TextTokenizer
from tests.catalogue.building import change, encoder, then
from tests.catalogue.kinds_classifiers import FAMILIES, classifying
from tests.needs import missing

LIMITS = Limits(max_text_chars=500)
LONG = "the film was not very good and " * 12


def manifest(task: str = "text-classification", **options: Any) -> Manifest:
    return Manifest("m", "1", task, (FileEntry("config.json", 1, "0" * 64),), memory_bytes=1, options=options)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    FAMILIES["bert"](folder)
    TASK.settle(folder)
    return folder


def prepare(folder: Path, inputs: list[Any], **parameters: Any) -> Any:
    return TASK.open_web(folder, manifest(), LIMITS).prepare(inputs, parameters)


def test_a_pair_has_three_forms_and_a_text_two(bert: Path) -> None:
    a, b = "the film", "a bad day"
    rows = prepare(bert, [{"text": a, "text_pair": b}, [a, b], {"text": a}, {"text": a, "text_pair": None}, a]).arrays
    wanted = transformers.AutoTokenizer.from_pretrained(bert)(a, b)
    for row in rows[:2]:
        assert row.tolist() == [wanted["input_ids"], wanted["token_type_ids"]]
    assert len({tuple(row.tolist()) for row in rows[2:]}) == 1


@pytest.mark.parametrize(
    ("one", "place", "why"),
    [
        (7, "", "must be a string"),
        (["a"], "", "no pair"),
        (["a", "b", "c"], "", "no pair"),
        ([], "", "no pair"),
        (["a", 7], "/1", "must be a string"),
        (["", "b"], "/0", "empty"),
        ([["a", "b"], "c"], "/0", "must be a string"),
        ({}, "", "must be a text"),
        ({"text_pair": "b"}, "", "must be a text"),
        ({"text": "a", "pair": "b"}, "", "must be a text"),
        ({"text": "a", "text_pair": ""}, "/text_pair", "empty"),
        ({"text": "a", "text_pair": " \n"}, "/text_pair", "empty"),
        ({"text": None, "text_pair": "b"}, "/text", "must be a string"),
        ({"text": "a", "text_pair": ["b"]}, "/text_pair", "must be a string"),
        ({"text": "a", "text_pair": "x" * 501}, "/text_pair", "at most 500"),
        ({"text": "a", "text_pair": "\ud800"}, "/text_pair", "surrogate"),
        ({"text": LONG, "text_pair": "a"}, "/text_pair", "+ 1 tokens"),
        ([LONG, LONG], "/1", "shorten them"),
    ],
    ids=str,
)
def test_what_is_no_pair_is_pointed_at(bert: Path, one: Any, place: str, why: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        prepare(bert, ["a good day", one])
    assert refused.value.pointer == f"/inputs/1{place}"
    assert why in str(refused.value)


def test_pairs_have_no_windows(bert: Path) -> None:
    with pytest.raises(InvalidInput, match="a pair has no windows") as refused:
        prepare(bert, ["a", ["a", "b"]], average=True)
    assert refused.value.pointer == "/inputs/1/1"


def test_what_was_cut_is_told_among_single_texts(bert: Path) -> None:
    prepared = prepare(bert, [["a", "b"], LONG, "a", [LONG, "b"]], truncate=True)
    assert list(prepared.truncated) == [1, 3]
    assert [row.shape[-1] for row in prepared.arrays] == [5, 64, 3, 64]


def test_tweets_are_normalised_in_pairs_too(bert: Path) -> None:
    web = TASK.open_web(bert, manifest(normalize_tweets=True), LIMITS)
    rows = web.prepare([["@anna is good", "see http://a.b"], ["@user is good", "see http"]], {}).arrays
    assert rows[0].tolist() == rows[1].tolist()
    with pytest.raises(InvalidInput) as refused:
        web.prepare([["@anna", 7]], {})
    assert refused.value.pointer == "/inputs/0/1"


_WHOLE = {"tokenizer_class": "PreTrainedTokenizerFast"}


@pytest.mark.parametrize("how", [{}, _WHOLE, {**_WHOLE, "model_input_names": ["input_ids", "token_type_ids"]}], ids=str)
@pytest.mark.parametrize("family", ["bert", "electra", "roberta", "deberta-v2"])
def test_the_frame_is_the_librarys(
    family: str, how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAMILIES[family](tmp_path / "own")
    change("tokenizer_config.json", **how)(tmp_path / "own")
    for name in ("plain", "library"):
        shutil.copytree(tmp_path / "own", tmp_path / name)
    write_frame(tmp_path / "plain")
    monkeypatch.setattr(pair_frame, "plain_document", lambda root: None)
    write_frame(tmp_path / "library")
    assert read_frame(tmp_path / "plain") == read_frame(tmp_path / "library")


def test_the_class_decides_about_pairs_whatever_its_file_says(tmp_path: Path) -> None:
    """Where the tokenizer is BertTokenizer's, transformers isn't asked, and the file's own template isn't believed."""
    encoder("bert")(tmp_path)
    made = transformers.AutoTokenizer.from_pretrained(tmp_path)("a", "b")
    template = json.loads((tmp_path / "tokenizer.json").read_text())["post_processor"]
    if template.get("type") == "TemplateProcessing":
        template["pair"] = template["pair"][:3]
        change("tokenizer.json", post_processor=template)(tmp_path)
    write_frame(tmp_path)
    row = read_frame(tmp_path).put(made["input_ids"][1:2], made["input_ids"][3:4])
    assert row.tolist() == [made["input_ids"], made["token_type_ids"]]


def test_a_tokenizer_without_pairs_serves_single_texts(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "m", ignore=shutil.ignore_patterns(".converted"))
    folder = tmp_path / "m"
    then(
        change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"),
        change("tokenizer.json", post_processor=None),
    )(folder)
    with pytest.MonkeyPatch.context() as patch:

        def refuse(root: Path) -> None:
            raise Refused("tokenizer.json", "it makes no pair of two texts")

        patch.setattr("model_api.tasks.text.text_classification.write_frame", refuse)
        TASK.settle(folder)
    assert not has_frame(folder)
    assert len(prepare(folder, ["a good day"]).arrays) == 1
    with pytest.raises(InvalidInput, match="makes no pairs") as refused:
        prepare(folder, ["a", {"text": "a", "text_pair": "b"}])
    assert refused.value.pointer == "/inputs/1/text_pair"
    with pytest.raises(Refused, match="wasn't written down"):
        PairTokenizer(TextTokenizer(folder, {}, LIMITS), folder)


def test_a_rule_that_leaves_nothing_of_a_text_is_refused(bert: Path) -> None:
    pairs = PairTokenizer(TextTokenizer(bert, {}, LIMITS), bert)
    with pytest.raises(InvalidInput, match=r"shorten them"):
        pairs.encode([TextPair("a", LONG, ("/a", "/b"))], True, lambda first, second, room: (room - second, second))


def needs_int8() -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")


def test_int8_refuses_pairs_with_types_by_name_and_that_input_alone(bert: Path) -> None:
    needs_int8()
    model = TASK.load_model(bert, manifest(), "int8")
    assert model.precision == "int8"
    web = TASK.open_web(bert, manifest(), LIMITS)
    prepared = web.prepare(["a good day", ["a", "b"], "a bad day"], {})
    outputs = list(model.forward(prepared.arrays, {}))
    assert [output.shape for output in outputs] == [(3,), (0,), (3,)]
    assert all(np.isfinite(output).all() for output in outputs)
    with pytest.raises(InvalidInput, match="--option pairs=true") as refused:
        web.finish(prepared, outputs)
    assert refused.value.pointer == "/inputs/1"


@pytest.mark.parametrize("by", ["labels", "option"])
def test_a_classifier_of_pairs_isnt_served_in_int8(by: str, bert: Path, tmp_path: Path) -> None:
    needs_int8()
    if by == "option":
        model = TASK.load_model(bert, manifest(pairs=True), "int8")
    else:
        names = {0: "entailment", 1: "neutral", 2: "contradiction"}
        classifying("bert", id2label=names, label2id={name: i for i, name in names.items()})(tmp_path)
        model = TASK.load_model(tmp_path, manifest(), "int8")
    assert model.precision != "int8"
    assert model.precision_reason is not None
    assert "token types" in model.precision_reason


@pytest.mark.parametrize("family", ["roberta", "distilbert", "xlm-roberta"])
def test_families_without_token_types_have_pairs_in_int8(family: str, tmp_path: Path) -> None:
    needs_int8()
    FAMILIES[family](tmp_path)
    TASK.settle(tmp_path)
    web = TASK.open_web(tmp_path, manifest(), LIMITS)
    prepared = web.prepare([["the film was good", "a bad day"], "a", ["a", "the train was not bad"]], {})
    exact, near = (
        np.stack(list(TASK.load_model(tmp_path, manifest(pairs=True), precision).forward(prepared.arrays, {})))
        for precision in ("float32", "int8")
    )
    assert TASK.load_model(tmp_path, manifest(pairs=True), "int8").precision == "int8"
    assert np.abs(exact - near).max() < 0.1


def test_a_senseless_value_of_the_option_is_refused() -> None:

    with pytest.raises(Refused, match="option pairs"):
        read_options(TASK.options, {"pairs": "yes"})
