"""Which tokenizers may run in the web process: those made of parts from a short list, each with bounded fields.

A tokenizer.json is a program of its author's: patterns that backtrack for ever, replacements that double a text,
tables that panic the library that reads them. What is all from this list can do none of that; what isn't is run by the
version's own processes, and costs nobody else anything. The judgement never uses that library. It takes seconds at
most, but holds the interpreter's lock: see bring_up.py for where it is made.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import BadJson, parse_json
from model_api.tasks.text.character_map import worst_growth

# Loading holds the interpreter's lock: 18 ms for 30,000 word pieces, 92 ms for 50,000 byte pairs with their merges,
# 1.5 s for the 250,000 of XLM-R.
MAX_BYTES_HERE = 8 * 2**20
MAX_ENTRIES = 131_072  # of a vocabulary, with its merges
MAX_UNIGRAM_ENTRIES = 40_000
MAX_ADDED_TOKENS = 10_000
MAX_TOKEN_CHARS = 512
MAX_PARTS = 16  # of one sequence
MAX_GROWTH = 8.0  # of a text's bytes, over all replacements
MAX_VOCABULARY_FILE_BYTES = 2 * 2**20  # vocab.txt

# Patterns of one character class, or without nested repetition: linear whatever the text.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = frozenset(
    {_GPT2, _LLAMA3, _LLAMA3.replace("{1,3}", ""), r"\s+", " {2,}", r"\d", r"\p{N}"}
    | {r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"}
)
MAX_CHARACTER_GROWTH = 12.0  # of one character: NFKC's longest, U+FDFA, becomes eleven times as long


class Elsewhere(Exception):
    """Not on the list; says what."""


Check = Callable[[Any], object]


def why_elsewhere(folder: Path) -> str:
    """Why the tokenizer of the model in `folder` must not run in the web process, "" if it may. Raises Refused for one
    that can't work anywhere; OSError."""
    path = folder / "tokenizer.json"
    try:
        if path.exists():
            check_document(_read(path))
        elif (folder / "vocab.txt").exists():
            _require(read_bounded(folder / "vocab.txt", MAX_VOCABULARY_FILE_BYTES).count(b"\n") <= MAX_ENTRIES, "size")
    except Elsewhere as error:
        return f"{path.name}: {error}"
    except Refused as error:
        if error.path in (path.name, "vocab.txt") and "read" in error.reason:  # longer than what is read here
            return str(error)
        raise
    return ""


def _read(path: Path) -> Any:
    data = read_bounded(path, MAX_BYTES_HERE)
    try:
        return parse_json(data, MAX_BYTES_HERE, unique_names=True)
    except BadJson as error:
        raise Elsewhere(str(error)) from None


def check_document(document: Any) -> None:
    """Raises Elsewhere naming the first part that isn't on the list, Refused for what can't work."""
    known = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"}
    _require(isinstance(document, dict), "not an object")
    unknown = document.keys() - known - {"post_processor", "decoder", "model"}
    _require(not unknown, f"{', '.join(sorted(unknown))[:80]} is not known")
    _check_added(document.get("added_tokens") or [])
    growth = _check_part("normalizer", document.get("normalizer"), _NORMALIZERS)
    growth *= _check_part("pre-tokenizer", document.get("pre_tokenizer"), _PRE_TOKENIZERS)
    _require(growth <= MAX_GROWTH, f"its parts may make a text {growth:g} times as long")
    _check_part("post-processor", document.get("post_processor"), _POST_PROCESSORS)
    growth = _check_part("decoder", document.get("decoder"), _DECODERS)
    _require(growth <= MAX_GROWTH, f"its decoders may make a text {growth:g} times as long")
    _check_model(document.get("model"))


def _require(condition: object, what: str) -> None:
    if not condition:
        raise Elsewhere(what)


# ---- fields ----


def _flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _text(max_chars: int) -> Check:
    return lambda value: value is None or (isinstance(value, str) and len(value) <= max_chars)


def _number(most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _word(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and len(value) <= 32


def _token_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and bool(_text(64)(value[0]) and _number(2**24)(value[1]))


def _pattern(value: Any) -> bool:
    """{"String": something not empty} or {"Regex": a known one}."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    kind, text = next(iter(value.items()))
    if not isinstance(text, str) or not text or len(text) > 512:
        return False
    return kind == "String" or (kind == "Regex" and text in PATTERNS)


def _character_map(value: Any) -> bool:
    growth = worst_growth(value) if isinstance(value, str) else None
    return value == "" or (growth is not None and growth <= MAX_CHARACTER_GROWTH)


def _pieces(value: Any) -> bool:
    """A template: the texts once each, and special tokens between them."""
    if not isinstance(value, list) or len(value) > MAX_PARTS or not all(isinstance(p, dict) for p in value):
        return False
    texts = []
    for piece in value:
        kind, body = next(iter(piece.items()), ("", None))
        if len(piece) != 1 or kind not in ("Sequence", "SpecialToken") or not isinstance(body, dict):
            return False
        if kind == "Sequence":
            texts.append(str(body.get("id")))
    return len(texts) == len(set(texts))


def _special_tokens(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 64
        and all(isinstance(v, dict) and isinstance(v.get("ids"), list) and len(v["ids"]) <= 8 for v in value.values())
    )


# ---- parts: kind -> its fields ----

Kinds = Mapping[str, Mapping[str, Check]]
_REPLACE: Mapping[str, Check] = {"pattern": _pattern, "content": _text(16)}
_BYTE_LEVEL: Mapping[str, Check] = {"add_prefix_space": _flag, "trim_offsets": _flag, "use_regex": _flag}
_METASPACE: Mapping[str, Check] = {
    "replacement": _text(1),
    "str_rep": _text(1),
    "prepend_scheme": _word,
    "split": _flag,
    "add_prefix_space": _flag,
}
_NORMALIZERS: Kinds = {
    **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "ByteLevel"), {}),
    "BertNormalizer": dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), _flag),
    "Strip": {"strip_left": _flag, "strip_right": _flag},
    "Prepend": {"prepend": _text(16)},
    "Replace": _REPLACE,
    "Precompiled": {"precompiled_charsmap": _character_map},
    "Sequence": {"normalizers": lambda value: True},
}
_PRE_TOKENIZERS: Kinds = {
    **dict.fromkeys(("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts"), {}),
    "ByteLevel": _BYTE_LEVEL,
    "Metaspace": _METASPACE,
    "Digits": {"individual_digits": _flag},
    "Punctuation": {"behavior": _word},
    "CharDelimiterSplit": {"delimiter": _text(1)},
    "Split": {"pattern": _pattern, "behavior": _word, "invert": _flag},
    "Sequence": {"pretokenizers": lambda value: True},
}
_POST_PROCESSORS: Kinds = {
    "BertProcessing": {"sep": _token_pair, "cls": _token_pair},
    "RobertaProcessing": {"sep": _token_pair, "cls": _token_pair, "trim_offsets": _flag, "add_prefix_space": _flag},
    "ByteLevel": _BYTE_LEVEL,
    "TemplateProcessing": {"single": _pieces, "pair": _pieces, "special_tokens": _special_tokens},
    "Sequence": {"processors": lambda value: True},
}
_DECODERS: Kinds = {
    **dict.fromkeys(("ByteFallback", "Fuse"), {}),
    "ByteLevel": _BYTE_LEVEL,
    "Metaspace": _METASPACE,
    "WordPiece": {"prefix": _text(16), "cleanup": _flag},
    "BPEDecoder": {"suffix": _text(16)},
    "Strip": {"content": _text(1), "start": _number(16), "stop": _number(16)},
    "Replace": _REPLACE,
    "Sequence": {"decoders": lambda value: True},
}
_MEMBERS = ("normalizers", "pretokenizers", "processors", "decoders")


def _check_part(role: str, part: Any, kinds: Kinds, depth: int = 0) -> float:
    """How many times as long the part may make a text, in bytes, beyond what Unicode itself does."""
    if part is None:
        return 1.0
    kind = part.get("type") if isinstance(part, dict) else None
    _require(isinstance(kind, str) and kind in kinds, f"{role} {str(kind)[:40]}")
    fields = kinds[str(kind)]
    for name, value in part.items():
        if name != "type":
            _require(name in fields and fields[name](value), f"{role} {kind}: {name[:40]}")
    if kind == "Sequence":
        members = next((part[name] for name in _MEMBERS if name in part), None)
        _require(isinstance(members, list) and len(members) <= MAX_PARTS and depth < 2, f"{role} Sequence")
        growth = 1.0
        for member in members or ():
            growth *= _check_part(role, member, kinds, depth + 1)
        return growth
    return _growth(str(kind), part)


def _growth(kind: str, part: Mapping[str, Any]) -> float:
    if kind == "Replace":
        replaced = part.get("pattern", {}).get("String", " ")  # every known pattern matches a byte at least
        return max(1.0, len((part.get("content") or "").encode()) / len(replaced.encode()))
    if kind == "ByteLevel":
        return 2.0  # a byte beyond ASCII becomes a letter of two
    return 3.0 if kind == "Metaspace" else 1.0


def _check_added(tokens: Any) -> None:
    _require(isinstance(tokens, list) and len(tokens) <= MAX_ADDED_TOKENS, "added_tokens")
    flags = {"single_word", "lstrip", "rstrip", "normalized", "special"}
    for token in tokens:
        _require(isinstance(token, dict) and token.keys() <= flags | {"id", "content"}, "added_tokens")
        content = token.get("content")
        _require(isinstance(content, str) and 0 < len(content) <= MAX_TOKEN_CHARS, "an added token's length")
        _require(_number(2**24)(token.get("id")) and all(_flag(token.get(flag)) for flag in flags), "added_tokens")


# ---- models ----

_MODELS: Kinds = {
    "WordPiece": {
        "unk_token": _text(64),
        "continuing_subword_prefix": _text(16),
        "max_input_chars_per_word": _number(256),  # a word costs its square
    },
    "BPE": {
        "dropout": lambda value: value is None,
        "unk_token": _text(64),
        "continuing_subword_prefix": _text(16),
        "end_of_word_suffix": _text(16),
        "fuse_unk": _flag,
        "byte_fallback": _flag,
        "ignore_merges": _flag,
    },
    "WordLevel": {"unk_token": _text(64)},
    "Unigram": {"unk_id": lambda value: value is None or _number(MAX_UNIGRAM_ENTRIES)(value), "byte_fallback": _flag},
}


def _check_model(model: Any) -> None:
    _require(isinstance(model, dict), "model")
    # Files of 2020 don't name the kind; these fields do.
    by_field = {"merges": "BPE", "max_input_chars_per_word": "WordPiece"}
    kind = model.get("type") or next((named for name, named in by_field.items() if name in model), None)
    _require(isinstance(kind, str) and kind in _MODELS, f"model {str(kind)[:40]}")
    fields = _MODELS[str(kind)]
    for name, value in model.items():
        if name not in ("type", "vocab", "merges"):
            _require(name in fields and fields[name](value), f"model {kind}: {name[:40]}")
    vocabulary, merges = model.get("vocab"), model.get("merges") or []
    if kind == "Unigram":
        _check_scores(vocabulary)
        return
    _require(isinstance(vocabulary, dict) and isinstance(merges, list), "vocab")
    assert isinstance(vocabulary, dict)
    size = len(vocabulary) + len(merges)
    _require(size <= MAX_ENTRIES, f"{size} entries, at most {MAX_ENTRIES} are loaded in the web process")
    _require(all(len(token) <= MAX_TOKEN_CHARS for token in vocabulary), "a token's length")
    _require(all(_number(2**24)(index) for index in vocabulary.values()), "a token's id")
    _require(all(_is_merge(merge) for merge in merges), "merges")
    unknown = model.get("unk_token")
    if unknown is not None and unknown not in vocabulary:
        raise Refused("tokenizer.json", f"its unknown token {unknown!r} is not in its vocabulary")


def _check_scores(vocabulary: Any) -> None:
    _require(isinstance(vocabulary, list), "vocab")
    _require(
        len(vocabulary) <= MAX_UNIGRAM_ENTRIES,
        f"{len(vocabulary)} entries, at most {MAX_UNIGRAM_ENTRIES} of a Unigram are loaded in the web process",
    )
    for entry in vocabulary:
        _require(isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str), "vocab")
        _require(len(entry[0]) <= 64 and isinstance(entry[1], int | float), "vocab")


def _is_merge(merge: Any) -> bool:
    if isinstance(merge, list):
        return len(merge) == 2 and all(isinstance(part, str) and len(part) <= MAX_TOKEN_CHARS for part in merge)
    return isinstance(merge, str) and len(merge) <= 2 * MAX_TOKEN_CHARS
