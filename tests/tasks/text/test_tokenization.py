"""Texts to token ids, and what is told when that can't be done."""

import json
from pathlib import Path

import pytest

from model_api.errors import InvalidInput, Refused
from model_api.tasks.contract import Limits
from model_api.tasks.text.settled_tokenizer import settle
from model_api.tasks.text.tokenization import TextTokenizer, read_max_tokens
from tests.rigs.models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), seed=1)


def tokenizer(folder: Path, **options: object) -> TextTokenizer:
    return TextTokenizer(folder, options, Limits(5000))


def test_ids_carry_the_special_tokens_and_no_padding(folder: Path) -> None:
    tokens = tokenizer(folder).encode(["the cat", "the"], "/inputs", truncate=False)
    assert [ids.tolist() for ids in tokens.ids] == [[2, 99, 108, 3], [2, 99, 3]]
    assert tokens.truncated == []


def test_padding_and_truncation_in_the_file_are_not_obeyed(tmp_path: Path) -> None:
    tiny_model(tmp_path, seed=1)
    file = tmp_path / "tokenizer.json"
    document = json.loads(file.read_text())
    document["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    document["padding"] = {
        "strategy": {"Fixed": 9},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    file.write_text(json.dumps(document))
    assert tokenizer(tmp_path).encode(["the cat"], "/inputs", truncate=False).ids[0].tolist() == [2, 99, 108, 3]


def test_cutting_keeps_the_special_tokens(folder: Path) -> None:
    tokens = tokenizer(folder, max_tokens=4).encode(["the cat dog tea", "the"], "/inputs", truncate=True)
    assert [ids.tolist() for ids in tokens.ids] == [[2, 99, 108, 3], [2, 99, 3]]
    assert tokens.truncated == [0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("\u200b\ufeff", "empty but for characters that the model's tokenizer drops"),
        ("\u0301", "empty but for"),
        (7, "must be a string"),
        (None, "must be a string"),
        ("x" * 5001, "at most 5000"),
        ("\ud800", "surrogate"),
        ("a b c d e f", "has 8 tokens, the model takes 5"),
    ],
)
def test_what_cannot_be_served_is_named(folder: Path, text: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        tokenizer(folder, max_tokens=5).encode(["the", text], "/texts", truncate=False)
    assert caught.value.pointer == "/texts/1"


def test_the_least_limit_of_the_models_files_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "roberta", "max_position_embeddings": 514}')
    assert read_max_tokens(tmp_path) == 512
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1e30}')
    assert read_max_tokens(tmp_path) == 512
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert read_max_tokens(tmp_path) == 128


def test_a_vocabulary_alone_is_enough_for_bert(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "vocab_size": 7}')
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat"]))
    settle(tmp_path)
    assert tokenizer(tmp_path).encode(["The cat"], "/inputs", truncate=False).ids[0].tolist() == [2, 5, 6, 3]


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_a_missing_or_broken_tokenizer_is_refused(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(Refused, match=r"tokenizer\.json"):
        tokenizer(tmp_path)
