"""Which vocabularies may be loaded by the web process: of known kinds, and small.

Loading holds the interpreter's lock: 18 ms for 30,000 word pieces, 92 ms for 50,000 byte pairs with their merges, 1.5 s
for the 250,000 of XLM-R (measured on two cores).
"""

from typing import Any

from model_api.errors import Refused
from model_api.tasks.text.tokenizer_fields import Kinds, flag, number, require, short

MAX_ENTRIES = 131_072  # of a vocabulary, with its merges
MAX_UNIGRAM_ENTRIES = 40_000
MAX_TOKEN_CHARS = 512

_MODELS: Kinds = {
    "WordPiece": {
        "unk_token": short(64),
        "continuing_subword_prefix": short(16),
        "max_input_chars_per_word": number(256),  # a word costs its square
    },
    "BPE": {
        "dropout": lambda value: value is None,
        "unk_token": short(64),
        "continuing_subword_prefix": short(16),
        "end_of_word_suffix": short(16),
        "fuse_unk": flag,
        "byte_fallback": flag,
        "ignore_merges": flag,
    },
    "WordLevel": {"unk_token": short(64)},
    "Unigram": {"unk_id": lambda value: value is None or number(MAX_UNIGRAM_ENTRIES)(value), "byte_fallback": flag},
}


def check_model(model: Any) -> None:
    require(isinstance(model, dict), "model")
    # Files of 2020 don't name the kind; these fields do.
    by_field = {"merges": "BPE", "max_input_chars_per_word": "WordPiece"}
    kind = model.get("type") or next((named for name, named in by_field.items() if name in model), None)
    require(isinstance(kind, str) and kind in _MODELS, f"model {str(kind)[:40]}")
    fields = _MODELS[str(kind)]
    for name, value in model.items():
        if name not in ("type", "vocab", "merges"):
            require(name in fields and fields[name](value), f"model {kind}: {name[:40]}")
    vocabulary, merges = model.get("vocab"), model.get("merges") or []
    if kind == "Unigram":
        _check_scores(vocabulary)
        return
    require(isinstance(vocabulary, dict) and isinstance(merges, list), "vocab")
    assert isinstance(vocabulary, dict)
    size = len(vocabulary) + len(merges)
    require(size <= MAX_ENTRIES, f"{size} entries, at most {MAX_ENTRIES} are loaded in the web process")
    require(all(len(token) <= MAX_TOKEN_CHARS for token in vocabulary), "a token's length")
    require(all(number(2**24)(index) for index in vocabulary.values()), "a token's id")
    require(all(_is_merge(merge) for merge in merges), "merges")
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in vocabulary:
        raise Refused("tokenizer.json", f"its unknown token {unknown!r} is not in its vocabulary")


def _check_scores(vocabulary: Any) -> None:
    require(isinstance(vocabulary, list), "vocab")
    require(
        len(vocabulary) <= MAX_UNIGRAM_ENTRIES,
        f"{len(vocabulary)} entries, at most {MAX_UNIGRAM_ENTRIES} of a Unigram are loaded in the web process",
    )
    for entry in vocabulary:
        require(isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str), "vocab")
        require(len(entry[0]) <= 64 and isinstance(entry[1], int | float), "vocab")


def _is_merge(merge: Any) -> bool:
    if isinstance(merge, list):
        return len(merge) == 2 and all(isinstance(part, str) and len(part) <= MAX_TOKEN_CHARS for part in merge)
    return isinstance(merge, str) and len(merge) <= 2 * MAX_TOKEN_CHARS
