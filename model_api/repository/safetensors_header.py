"""Check a safetensors file by its header alone: the tensors it promises must fill the file exactly.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import BadJson, parse_json
from model_api.repository.units import part_of

# The format allows 100 MB; a file of 30,000 tensors (a large mixture of experts, unsharded) has 4 MB.
MAX_HEADER_BYTES = 8 * 2**20
MAX_DIMENSIONS = 8
DTYPE_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}


class Incomplete(Refused):
    """Shorter than its own header says, or empty: a copy in progress looks like this, and so does a broken one."""


@dataclass(frozen=True)
class Tensor:
    """One entry of a header; `n_bytes` is what it takes in the file."""

    name: str
    shape: tuple[int, ...]
    n_bytes: int


def read_tensors(file: Path, path: str) -> list[Tensor]:
    """The tensors of `file`, in order of their place in it. `path` names it in errors.

    Raises Incomplete for a file shorter than its header promises, Refused for anything else that is wrong; OSError.
    What a header may cost is bounded, but it is still a stranger's: see inspection.py for who parses it where.
    """
    with file.open("rb") as stream:
        size_bytes = stream.seek(0, 2)
        stream.seek(0)
        prefix = stream.read(8)
        if len(prefix) < 8:
            raise Incomplete(path, f"{size_bytes} bytes: not even the start of a safetensors file")
        header_bytes = int.from_bytes(prefix, "little")
        if header_bytes > 100 * 10**6 or header_bytes < 2:
            raise Refused(path, "not a safetensors file (its header length makes no sense)")
        if header_bytes > MAX_HEADER_BYTES:
            raise Refused(path, f"its header takes {header_bytes} bytes, at most {MAX_HEADER_BYTES} are read")
        text = stream.read(header_bytes)
    if len(text) < header_bytes:
        raise Incomplete(path, f"{part_of(size_bytes, 8 + header_bytes)} of its header")
    try:
        header = parse_json(text, MAX_HEADER_BYTES, unique_names=True)
    except BadJson as error:
        raise Refused(path, f"not a safetensors file (its header: {error})") from None
    if not isinstance(header, dict):
        raise Refused(path, "not a safetensors file (its header is not a JSON object)")
    header.pop("__metadata__", None)
    tensors = _tensors(header, path)
    whole_bytes = 8 + header_bytes + sum(tensor.n_bytes for tensor in tensors)
    if size_bytes < whole_bytes:
        raise Incomplete(path, part_of(size_bytes, whole_bytes))
    if size_bytes > whole_bytes:
        raise Refused(path, f"{size_bytes - whole_bytes} bytes too long for what its header lists")
    return tensors


def _tensors(header: Mapping[str, Any], path: str) -> list[Tensor]:
    found: list[tuple[int, Tensor]] = []
    for name, entry in header.items():
        try:
            shape = tuple(entry["shape"])
            if len(shape) > MAX_DIMENSIONS:
                raise Refused(path, f"tensor {name!r}: {len(shape)} dimensions, at most {MAX_DIMENSIONS} are read")
            begin, end = entry["data_offsets"]
            bits = DTYPE_BITS[entry["dtype"]]
            numbers = (*shape, begin, end)
            valid = all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in numbers)
        except (KeyError, TypeError, ValueError):
            valid = False
        if not valid:
            raise Refused(path, f"tensor {name!r}: bad dtype, shape or offsets in the header")
        if (end - begin) * 8 != prod(shape) * bits:
            raise Refused(path, f"tensor {name!r}: its offsets don't fit its shape and dtype")
        found.append((begin, Tensor(name, shape, end - begin)))
    found.sort(key=lambda pair: (pair[0], pair[1].n_bytes))
    position = 0
    for begin, tensor in found:
        if begin != position:
            raise Refused(path, f"tensor {tensor.name!r}: a gap or an overlap before it")
        position += tensor.n_bytes
    return [tensor for _, tensor in found]
