"""Bodies as JSON: strict, and counted before they are parsed.

Ten megabytes of `[[],[],...]` become several hundred once parsed, so what a body holds is counted on its bytes first.
"""

from typing import Any

import numpy as np
import orjson

from model_api.errors import MalformedRequest

MAX_DEPTH = 64  # of arrays and objects: far above any real input, far below what recursion can bear
MAX_ELEMENTS = 1_000_000  # values in all arrays and objects together; parsed, they take up to 120 bytes each

_BOM = b"\xef\xbb\xbf"  # what Windows puts before UTF-8
_BLOCK_BYTES = 1 << 18
_QUOTE, _COMMA = b'",'
_OPENING, _CLOSING = tuple(b"[{"), tuple(b"]}")


def parse_object(body: bytes) -> Any:
    """Parse strict JSON: UTF-8, finite numbers, no lone surrogate, bounded in depth and number of values.

    Raises MalformedRequest.
    """
    if body.startswith(_BOM):
        body = body[len(_BOM) :]
    if not body:
        raise MalformedRequest("the body is empty; a JSON object was expected")
    opening = body.count(b"[") + body.count(b"{")
    # Counting bytes is enough for almost every body: only the rest is looked at more closely.
    if opening > MAX_DEPTH or opening + body.count(b",") > MAX_ELEMENTS:
        elements, depth = measure(body)
        if depth > MAX_DEPTH:
            raise MalformedRequest(f"the body is nested more than {MAX_DEPTH} levels deep")
        if elements > MAX_ELEMENTS:
            raise MalformedRequest(f"the body holds more than {MAX_ELEMENTS:,} values")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # Its text names a place and a kind of error, and never quotes the body.
        raise MalformedRequest(f"the body is not valid JSON{_other_encoding(body)}: {error}") from None


def _other_encoding(body: bytes) -> str:
    """The usual reason where a body isn't UTF-8, for the message."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in body[:4]:
        return " (it looks like UTF-16 or UTF-32; send UTF-8)"
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return f" (byte {error.start} is not UTF-8; Latin-1 or Windows-1252, perhaps: send UTF-8)"
    return ""


def measure(body: bytes) -> tuple[int, int]:
    """An upper bound of the values, and the depth, of a JSON text, in one pass; anything for what isn't JSON."""
    elements = depth = deepest = 0
    in_string = False
    escaping = 0  # backslashes at the end of the block before
    for start in range(0, len(body), _BLOCK_BYTES):
        block = body[start : start + _BLOCK_BYTES]
        # Where a block begins with what a backslash at the end of the last one escapes, drop it.
        plain = block[escaping:].replace(b"\\\\", b"").replace(b'\\"', b"")
        escaping = int(plain.endswith(b"\\"))
        found = np.frombuffer(plain, np.uint8)
        inside = np.logical_xor.accumulate(np.concatenate(([in_string], found == _QUOTE)))
        in_string = bool(inside[-1])
        outside = found[~inside[1:]]
        opening = np.isin(outside, _OPENING)
        closing = np.isin(outside, _CLOSING)
        elements += int(np.count_nonzero(opening) + np.count_nonzero(outside == _COMMA))
        steps = np.cumsum(opening.astype(np.int32) - closing)
        if len(steps):
            deepest = max(deepest, depth + int(steps.max()))
            depth += int(steps[-1])
    return elements, deepest
