"""Tokenizers: which files there are, and what the class makes of them."""

from pathlib import Path
from typing import Any

from tests.catalogue.building import (
    Build,
    byte_pairs,
    change,
    encoder,
    modules,
    then,
    without,
    wordpiece_file,
    wordpieces,
    write,
)
from tests.catalogue.kind import TEXTS, Kind, sentences
from tests.catalogue.kinds_encoders import LLAMA, ROBERTA, SEGMENT, XLMR

HOW = {"tokenizer_class": "BertTokenizer", "model_max_length": 64}
SPECIAL_TEXTS = (
    *TEXTS,
    "the [SEP] day [MASK] <extra> is",
    "[CLS]the<extra>day",
    "Schön <EXTRA> not",
    "<s>the</s> <mask>day",
)
BERT = encoder("bert")
GENERIC = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, "pad_token": "[PAD]"}


def by_hand(how: Any = None, **normalizer: Any) -> Build:
    """tokenizer.json of one normalizer, tokenizer_config.json of perhaps another."""
    files = [without("tokenizer_config.json"), wordpiece_file(**normalizer)]
    files += [write("tokenizer_config.json", how)] if how is not None else []
    return then(BERT, *files, modules())


def vocabulary_file(folder: Path) -> None:
    (folder / "vocab.txt").write_text("\n".join(wordpieces()) + "\n")


def merges_files(folder: Path) -> None:
    vocabulary, merges = byte_pairs()
    write("vocab.json", vocabulary)(folder)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n")


def _kind(name: str, build: Build, **more: Any) -> Kind:
    return Kind(f"tokenizer, {name}", build, sentences, inputs=SPECIAL_TEXTS, **more)


def _refused(name: str, build: Build, words: str) -> Kind:
    return Kind(f"tokenizer, {name}", build, refused=words)


_ROBERTA, _XLMR = encoder("roberta", **ROBERTA, **SEGMENT), encoder("xlm-roberta", **XLMR, **SEGMENT)
_SMALL = {"vocab_size": 40}
_EXTRA = {
    "content": "[SEP]",
    "lstrip": True,
    "rstrip": True,
    "normalized": False,
    "single_word": False,
    "special": True,
}

TOKENIZERS = [
    _kind("as saved", then(BERT, modules())),
    _kind("lower case in both", by_hand({**HOW, "do_lower_case": True})),
    _kind("capitals in both", by_hand({**HOW, "do_lower_case": False}, lowercase=False)),
    _kind("tokenizer.json lowers, its class doesn't", by_hand({**HOW, "do_lower_case": False})),
    _kind("tokenizer.json keeps capitals, its class lowers", by_hand({**HOW, "do_lower_case": True}, lowercase=False)),
    _kind("tokenizer.json keeps capitals, nothing says more", by_hand(lowercase=False)),
    _kind("tokenizer.json keeps capitals, a class without a word", by_hand(HOW, lowercase=False)),
    _kind("of no class of its own", by_hand(GENERIC, lowercase=False)),
    _kind(
        "of no class of its own, BertTokenizerFast in config.json",
        then(by_hand({"model_max_length": 64}), change("config.json", tokenizer_class="BertTokenizerFast")),
    ),
    _kind("strip_accents", by_hand({**HOW, "strip_accents": False})),
    _kind("strip_accents in both", by_hand({**HOW, "strip_accents": False}, strip_accents=False)),
    _kind("tokenize_chinese_chars", by_hand({**HOW, "tokenize_chinese_chars": False})),
    _kind("another mask token", by_hand({**HOW, "mask_token": "very"})),
    _kind("a special token of the vocabulary", by_hand({**HOW, "additional_special_tokens": ["train"]})),
    _kind("an extra special token of the vocabulary", by_hand({**HOW, "extra_special_tokens": ["film"]})),
    _kind("special_tokens_map.json", then(by_hand(HOW), write("special_tokens_map.json", {"mask_token": "day"}))),
    _kind("added_tokens_decoder", by_hand({**HOW, "added_tokens_decoder": {"3": _EXTRA}})),
    _kind("a token with flags", by_hand({**HOW, "sep_token": {**_EXTRA, "__type": "AddedToken"}})),
    _kind("another [CLS]", by_hand({**HOW, "cls_token": "[MASK]"})),
    _kind("vocab.txt", then(BERT, without("tokenizer.json"), vocabulary_file, modules())),
    _kind(
        "vocab.txt, capitals",
        then(
            BERT,
            without("tokenizer.json"),
            vocabulary_file,
            change("tokenizer_config.json", do_lower_case=False),
            modules(),
        ),
    ),
    _kind(
        "vocab.txt, nothing else",
        then(BERT, without("tokenizer.json", "tokenizer_config.json"), vocabulary_file, modules()),
    ),
    _kind(
        "vocab.txt, ELECTRA",
        then(encoder("electra", embedding_size=16), without("tokenizer.json"), vocabulary_file, modules()),
    ),
    _kind("vocab.txt beside tokenizer.json", then(BERT, vocabulary_file, modules())),
    _refused(
        "vocab.txt of a Japanese class",
        then(
            BERT,
            without("tokenizer.json"),
            vocabulary_file,
            change("tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"),
            modules(),
        ),
        "Japanese",
    ),
    _kind("vocab.json and merges.txt, RoBERTa", then(_ROBERTA, without("tokenizer.json"), merges_files, modules())),
    _kind(
        "vocab.json and merges.txt, GPT-2",
        then(
            encoder("llama", tokenizer="GPT2Tokenizer", **LLAMA),
            without("tokenizer.json"),
            merges_files,
            modules(pooling="lasttoken"),
        ),
    ),
    _refused(
        "vocab.json without merges.txt",
        then(_ROBERTA, without("tokenizer.json"), merges_files, without("merges.txt"), modules()),
        "tokenizer.json",
    ),
    _refused(
        "nothing at all", then(BERT, without("tokenizer.json", "tokenizer_config.json"), modules()), "tokenizer.json"
    ),
    _refused(
        "sentencepiece alone",
        then(_XLMR, without("tokenizer.json"), lambda f: (f / "sentencepiece.bpe.model").write_bytes(b"x"), modules()),
        "save_pretrained",
    ),
    _kind(
        "Qwen2's files as GPT-2's class",
        then(encoder("qwen2", tokenizer="GPT2Tokenizer", **LLAMA), modules(pooling="lasttoken")),
    ),
    _kind(
        "RoBERTa, add_prefix_space",
        then(encoder("roberta", how={"add_prefix_space": True}, **ROBERTA, **SEGMENT), modules()),
    ),
    _kind(
        "RoBERTa, add_prefix_space changed later",
        then(_ROBERTA, change("tokenizer_config.json", add_prefix_space=True), modules()),
    ),
    _kind(
        "RoBERTa, of no class of its own",
        then(_ROBERTA, change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"), modules()),
    ),
    _kind(
        "Llama, add_eos_token",
        then(
            encoder("llama", tokenizer="GPT2Tokenizer", **LLAMA),
            change("tokenizer_config.json", tokenizer_class="TokenizersBackend", add_eos_token=True),
            modules(pooling="lasttoken"),
        ),
    ),
    _kind(
        "XLM-R of no class of its own",
        then(_XLMR, change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast"), modules()),
    ),
    _kind(
        "truncation and padding in tokenizer.json",
        then(
            BERT,
            change(
                "tokenizer.json",
                truncation={"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
                padding={
                    "strategy": {"Fixed": 20},
                    "direction": "Right",
                    "pad_to_multiple_of": None,
                    "pad_id": 0,
                    "pad_type_id": 0,
                    "pad_token": "[PAD]",
                },
            ),
            modules(),
        ),
    ),
    _refused("ids beyond the table", then(encoder("bert", **_SMALL), modules()), "table has 40 rows"),
    _refused("a token added beyond the table", by_hand({**HOW, "additional_special_tokens": ["<extra>"]}), "'<extra>'"),
    _refused(
        "code of its own",
        by_hand({**HOW, "auto_map": {"AutoTokenizer": [None, "tokenization_x.XTokenizer"]}}),
        "auto_map",
    ),
    _refused("not a tokenizer", then(BERT, write("tokenizer.json", {"model": {}}), modules()), "tokenizer"),
]
