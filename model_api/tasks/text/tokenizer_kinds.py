"""Which tokenizers may run in the web process: those made of parts from a short list, each with bounded fields.

A tokenizer.json is a program of its author's: patterns that backtrack for ever, replacements that double a text,
tables that panic the library that reads them. What is all from this list can do none of that; what isn't is run by the
version's own processes, and costs nobody else anything. The judgement never uses that library. It takes seconds at
most, but holds the interpreter's lock: see bring_up.py for where it is made.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import BadJson, parse_json
from model_api.repository.loaded_files import TOKENIZER_FILE, reader_of
from model_api.repository.sentence_modules import transformer_folder
from model_api.tasks.text.settled_tokenizer import settled_file
from model_api.tasks.text.tokenizer_fields import (
    MAX_PARTS,
    Check,
    Elsewhere,
    Kinds,
    character_map,
    flag,
    number,
    pattern,
    pieces,
    require,
    short,
    special_tokens,
    token_pair,
    word,
)
from model_api.tasks.text.tokenizer_models import MAX_TOKEN_CHARS, check_model

MAX_BYTES_HERE = 8 * 2**20
MAX_ADDED_TOKENS = 10_000
MAX_GROWTH = 8.0  # of a text's bytes, over all replacements


def why_elsewhere(folder: Path) -> str:
    """Why the tokenizer of the model in `folder` must not run in the web process, "" if it may. Raises Refused for one
    that can't work anywhere; OSError."""
    path = settled_file(folder / transformer_folder(*reader_of(folder)))
    try:
        if path.exists():
            check_document(_parse(_read(path, MAX_BYTES_HERE)))
    except Elsewhere as error:
        return f"{TOKENIZER_FILE}: {error}"
    return ""


def _read(path: Path, max_bytes: int) -> bytes:
    n_bytes = path.stat().st_size
    require(n_bytes <= max_bytes, f"{n_bytes} bytes, at most {max_bytes} are loaded in the web process")
    return read_bounded(path, max_bytes)


def _parse(data: bytes) -> Any:
    try:
        return parse_json(data, MAX_BYTES_HERE, unique_names=True)
    except BadJson as error:
        raise Elsewhere(str(error)) from None


def check_document(document: Any) -> None:
    """Raises Elsewhere naming the first part that isn't on the list, Refused for what can't work."""
    known = {"version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer"}
    require(isinstance(document, dict), "not an object")
    unknown = document.keys() - known - {"post_processor", "decoder", "model"}
    require(not unknown, f"{', '.join(sorted(unknown))[:80]} is not known")
    _check_added(document.get("added_tokens") or [])
    growth = _check_part("normalizer", document.get("normalizer"), _NORMALIZERS)
    growth *= _check_part("pre-tokenizer", document.get("pre_tokenizer"), _PRE_TOKENIZERS)
    require(growth <= MAX_GROWTH, f"its parts may make a text {growth:g} times as long")
    _check_part("post-processor", document.get("post_processor"), _POST_PROCESSORS)
    growth = _check_part("decoder", document.get("decoder"), _DECODERS)
    require(growth <= MAX_GROWTH, f"its decoders may make a text {growth:g} times as long")
    check_model(document.get("model"))


_REPLACE: Mapping[str, Check] = {"pattern": pattern, "content": short(16)}
_BYTE_LEVEL: Mapping[str, Check] = {"add_prefix_space": flag, "trim_offsets": flag, "use_regex": flag}
_METASPACE: Mapping[str, Check] = {
    "replacement": short(1),
    "str_rep": short(1),
    "prepend_scheme": word,
    "split": flag,
    "add_prefix_space": flag,
}
_NORMALIZERS: Kinds = {
    **{key: {} for key in ("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "StripAccents", "ByteLevel")},
    "BertNormalizer": dict.fromkeys(("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"), flag),
    "Strip": {"strip_left": flag, "strip_right": flag},
    "Prepend": {"prepend": short(16)},
    "Replace": _REPLACE,
    "Precompiled": {"precompiled_charsmap": character_map},
    "Sequence": {"normalizers": lambda value: True},
}
_PRE_TOKENIZERS: Kinds = {
    **{key: {} for key in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts")},
    "ByteLevel": _BYTE_LEVEL,
    "Metaspace": _METASPACE,
    "Digits": {"individual_digits": flag},
    "Punctuation": {"behavior": word},
    "CharDelimiterSplit": {"delimiter": short(1)},
    "Split": {"pattern": pattern, "behavior": word, "invert": flag},
    "Sequence": {"pretokenizers": lambda value: True},
}
_POST_PROCESSORS: Kinds = {
    "BertProcessing": {"sep": token_pair, "cls": token_pair},
    "RobertaProcessing": {"sep": token_pair, "cls": token_pair, "trim_offsets": flag, "add_prefix_space": flag},
    "ByteLevel": _BYTE_LEVEL,
    "TemplateProcessing": {"single": pieces, "pair": pieces, "special_tokens": special_tokens},
    "Sequence": {"processors": lambda value: True},
}
_DECODERS: Kinds = {
    **{key: {} for key in ("ByteFallback", "Fuse")},
    "ByteLevel": _BYTE_LEVEL,
    "Metaspace": _METASPACE,
    "WordPiece": {"prefix": short(16), "cleanup": flag},
    "BPEDecoder": {"suffix": short(16)},
    "Strip": {"content": short(1), "start": number(16), "stop": number(16)},
    "Replace": _REPLACE,
    "Sequence": {"decoders": lambda value: True},
}
_MEMBERS = ("normalizers", "pretokenizers", "processors", "decoders")


def _check_part(role: str, part: Any, kinds: Kinds, depth: int = 0) -> float:
    """How many times as long the part may make a text, in bytes, beyond what Unicode itself does."""
    if part is None:
        return 1.0
    kind = part.get("type") if isinstance(part, dict) else None
    require(isinstance(kind, str) and kind in kinds, f"{role} {str(kind)[:40]}")
    fields = kinds[str(kind)]
    for name, value in part.items():
        if name != "type":
            require(name in fields and fields[name](value), f"{role} {kind}: {name[:40]}")
    if kind == "Sequence":
        members = next((part[name] for name in _MEMBERS if name in part), None)
        require(isinstance(members, list) and len(members) <= MAX_PARTS and depth < 2, f"{role} Sequence")
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
    require(isinstance(tokens, list) and len(tokens) <= MAX_ADDED_TOKENS, "added_tokens")
    flags = {"single_word", "lstrip", "rstrip", "normalized", "special"}
    for token in tokens:
        require(isinstance(token, dict) and token.keys() <= flags | {"id", "content"}, "added_tokens")
        content = token.get("content")
        require(isinstance(content, str) and 0 < len(content) <= MAX_TOKEN_CHARS, "an added token's length")
        require(number(2**24)(token.get("id")) and all(flag(token.get(name)) for name in flags), "added_tokens")
