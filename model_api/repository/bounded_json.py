"""JSON that anybody may have written: the one reader for every document on the shared file system.

What it returns is safe to walk, to show and to write again: nested MAX_DEPTH deep at most, finite numbers of at most
MAX_DIGITS digits, and text that has an encoding. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.units import mb

MAX_DEPTH = 64
MAX_DIGITS = 40  # transformers writes 10^30 for "no limit"
_LARGEST = 10**MAX_DIGITS


class BadJson(ValueError):
    """Not JSON, or beyond the bounds; says which, in a few words."""


def parse_json(data: bytes | str, max_bytes: int, *, unique_names: bool = False) -> Any:
    """The document in `data`. Raises BadJson; with `unique_names` also where an object has one name twice, which other
    readers may understand otherwise."""
    if len(data) > max_bytes:
        raise BadJson(f"{mb(len(data))} of JSON; at most {mb(max_bytes)} are read")
    try:
        members = _unique if unique_names else None
        document = json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data, object_pairs_hook=members)
    except BadJson:
        raise
    except UnicodeDecodeError as error:
        raise BadJson(f"not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise BadJson(f"nested deeper than {MAX_DEPTH}") from None
    except MemoryError:
        raise BadJson("too large to be read") from None
    except ValueError as error:
        raise BadJson(f"not JSON: {str(error)[:200]}") from None
    _check(document)
    return document


def check_syntax(data: bytes, max_bytes: int) -> None:
    """For a document that nothing is read from: its numbers and names may be what they like. Raises BadJson."""
    if len(data) > max_bytes:
        raise BadJson(f"{mb(len(data))} of JSON; at most {mb(max_bytes)} are read")
    try:
        json.loads(data.decode("utf-8-sig"), parse_int=len, parse_float=len, parse_constant=len)
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadJson(f"not JSON: {str(error)[:200]}") from None


def read_json(file: Path, max_bytes: int) -> Any:
    """The document in `file`. Raises Refused naming the file; OSError."""
    try:
        return parse_json(read_bounded(file, max_bytes), max_bytes)
    except BadJson as error:
        raise Refused(file.name, str(error)) from None


def whole_number(raw: Any, what: str, low: int, high: int) -> int:
    """`raw` itself. Raises ValueError naming `what` unless it is an integer from `low` to `high`."""
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise ValueError(f"{what} {str(raw)[:40]!r}: must be a whole number")
    if not low <= raw <= high:
        raise ValueError(f"{what} {raw}: must be from {low} to {high}")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadJson(f"the name {twice[:40]!r} twice in one object")
    return made


def _check(document: Any) -> None:
    """Level by level, so that depth costs no stack."""
    level = [document]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, float):
                if not math.isfinite(value):
                    raise BadJson("a number that isn't finite")
            elif isinstance(value, int):
                if not -_LARGEST < value < _LARGEST:
                    raise BadJson(f"a number of more than {MAX_DIGITS} digits")
            elif isinstance(value, list):
                below += value
            elif isinstance(value, Mapping):
                for key in value:
                    _check_text(key)
                below += value.values()
        if not below:
            return
        level = below
    raise BadJson(f"nested deeper than {MAX_DEPTH}")


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadJson("text with half a character (a lone surrogate)") from None
