"""What the fields of a tokenizer.json's parts may hold where it is to run in the web process."""

from collections.abc import Callable, Mapping
from typing import Any

from model_api.tasks.text.character_map import worst_growth

MAX_PARTS = 16  # of one sequence
MAX_CHARACTER_GROWTH = 12.0  # of one character: NFKC's longest, U+FDFA, becomes eleven times as long

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

Check = Callable[[Any], object]
Kinds = Mapping[str, Mapping[str, Check]]  # kind -> its fields


class Elsewhere(Exception):
    """Not on the list; says what."""


def require(condition: object, what: str) -> None:
    if not condition:
        raise Elsewhere(what)


def flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def short(max_chars: int) -> Check:
    return lambda value: value is None or (isinstance(value, str) and len(value) <= max_chars)


def number(most: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def word(value: Any) -> bool:
    return isinstance(value, str) and value.isascii() and len(value) <= 32


def token_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and bool(short(64)(value[0]) and number(2**24)(value[1]))


def pattern(value: Any) -> bool:
    """{"String": something not empty} or {"Regex": a known one}."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    kind, text = next(iter(value.items()))
    if not isinstance(text, str) or not text or len(text) > 512:
        return False
    return kind == "String" or (kind == "Regex" and text in PATTERNS)


def character_map(value: Any) -> bool:
    growth = worst_growth(value) if isinstance(value, str) else None
    return value == "" or (growth is not None and growth <= MAX_CHARACTER_GROWTH)


def pieces(value: Any) -> bool:
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


def special_tokens(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 64
        and all(isinstance(v, dict) and isinstance(v.get("ids"), list) and len(v["ids"]) <= 8 for v in value.values())
    )
