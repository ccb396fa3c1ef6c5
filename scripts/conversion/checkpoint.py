"""Read a TensorFlow checkpoint (a "tensor bundle", as TensorFlow has written since 1.0) without TensorFlow.

`<prefix>.index` is a sorted table of name -> where its bytes lie in `<prefix>.data-0000N-of-0000M`, with a CRC-32C of
them. The table's format is LevelDB's; values are protocol buffers, of which only the few fields needed are read.
Every length is checked against the file before it is used.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.conversion.crc32c import crc32c

_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # of a block: how it is compressed, and its checksum
MAX_INDEX_BYTES = 64 * 2**20
MAX_DIMENSIONS = 8
# tensorflow/core/framework/types.proto: those that weights are stored in
_DTYPES: Mapping[int, npt.DTypeLike] = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "|b1", 19: "<f2"}


class BadCheckpoint(ValueError):
    """Not a checkpoint, damaged, or of a kind that isn't read; says which."""


@dataclass(frozen=True)
class Entry:
    """Where one tensor is."""

    name: str
    dtype: np.dtype[np.generic] | None  # None: of a kind that no weight has
    shape: tuple[int, ...]
    shard: int
    offset: int
    n_bytes: int
    masked_crc: int
    sliced: bool


class Checkpoint:
    """One checkpoint, by the path that TensorFlow calls it: without .index."""

    def __init__(self, prefix: Path) -> None:
        """Read the index. Raises BadCheckpoint, OSError."""
        self._prefix = prefix
        index = prefix.with_name(prefix.name + ".index")
        if index.stat().st_size > MAX_INDEX_BYTES:
            raise BadCheckpoint(f"{index.name} is longer than any index")
        entries = dict(_table(index.read_bytes()))
        if b"" not in entries:
            raise BadCheckpoint(f"{index.name} has no header")
        header = _fields(entries.pop(b""))
        self._n_shards = _number(header, 1, 1)
        if _number(header, 2, 0) != 0:
            raise BadCheckpoint("written on a big-endian machine")
        self.entries = {entry.name: entry for entry in (_entry(key, value) for key, value in entries.items())}

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """The tensor, its checksum verified. Raises BadCheckpoint, KeyError, OSError."""
        entry = self.entries[name]
        if entry.dtype is None or entry.sliced:
            raise BadCheckpoint(f"{name}: of a kind that weights don't have")
        if entry.n_bytes != prod(entry.shape) * entry.dtype.itemsize:
            raise BadCheckpoint(f"{name}: {entry.n_bytes} bytes don't fit its shape {entry.shape}")
        file = self._prefix.with_name(f"{self._prefix.name}.data-{entry.shard:05d}-of-{self._n_shards:05d}")
        with file.open("rb") as stream:
            stream.seek(entry.offset)
            data = stream.read(entry.n_bytes)
        if len(data) != entry.n_bytes:
            raise BadCheckpoint(f"{name}: {file.name} is cut short")
        if _masked(crc32c(data)) != entry.masked_crc:
            raise BadCheckpoint(f"{name}: damaged (its checksum differs)")
        return np.frombuffer(data, entry.dtype).reshape(entry.shape)


def _masked(crc: int) -> int:
    """As TensorFlow stores a checksum: rotated, so that a checksum of checksums is none by accident."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _entry(key: bytes, value: bytes) -> Entry:
    fields = _fields(value)
    shape = []
    for part in fields.get(2, []):
        for dimension in _fields(_bytes(part)).get(2, []):
            shape.append(_number(_fields(_bytes(dimension)), 1, 0))
    numbers = [_number(fields, field, 0) for field in (3, 4, 5)]
    if len(shape) > MAX_DIMENSIONS or any(not 0 <= n < 2**62 for n in (*shape, *numbers)):
        raise BadCheckpoint("an entry's sizes make no sense")
    dtype = _DTYPES.get(_number(fields, 1, 0))
    return Entry(
        name=key.decode("utf-8", "replace"),
        dtype=None if dtype is None else np.dtype(dtype),
        shape=tuple(shape),
        shard=numbers[0],
        offset=numbers[1],
        n_bytes=numbers[2],
        masked_crc=_number(fields, 6, 0),
        sliced=7 in fields,
    )


# ---- LevelDB's table ----


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of each entry, in order."""
    if len(data) < _FOOTER_BYTES or data[-8:] != _MAGIC:
        raise BadCheckpoint("not the index of a TensorFlow checkpoint")
    position = len(data) - _FOOTER_BYTES
    for _ in range(2):  # the metaindex's place, which nobody needs
        _, position = _varint(data, position)
    start, position = _varint(data, position)
    size, _ = _varint(data, position)
    for _, place in _block(data, start, size):
        block_start, at = _varint(place, 0)
        block_size, _ = _varint(place, at)
        yield from _block(data, block_start, block_size)


def _block(data: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    if size < 4 or start + size + _TRAILER_BYTES > len(data):
        raise BadCheckpoint("its index is cut short")
    block, trailer = data[start : start + size], data[start + size : start + size + _TRAILER_BYTES]
    if trailer[0] != 0:
        raise BadCheckpoint("its index is compressed; save it again with a newer TensorFlow")
    if _masked(crc32c(block + trailer[:1])) != int.from_bytes(trailer[1:], "little"):
        raise BadCheckpoint("its index is damaged (a checksum differs)")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or position + own + length > end:
            raise BadCheckpoint("its index is damaged")
        key = key[:shared] + block[position : position + own]
        yield key, block[position + own : position + own + length]
        position += own + length


# ---- protocol buffers ----

_Fields = dict[int, list[int | bytes]]


def _fields(message: bytes) -> _Fields:
    """Field number -> its values, in order."""
    found: _Fields = {}
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, position = _varint(message, position)
        elif kind == 2:
            length, position = _varint(message, position)
            value, position = message[position : position + length], position + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, position = int.from_bytes(message[position : position + length], "little"), position + length
        else:
            raise BadCheckpoint("an entry that no checkpoint has")
        if position > len(message):
            raise BadCheckpoint("an entry is cut short")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _number(fields: _Fields, field: int, default: int) -> int:
    value = fields.get(field, [default])[-1]
    if not isinstance(value, int):
        raise BadCheckpoint("an entry that no checkpoint has")
    return value


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise BadCheckpoint("an entry that no checkpoint has")
    return value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and where the next thing begins."""
    number = shift = 0
    while shift < 70:
        if position >= len(data):
            raise BadCheckpoint("cut short")
        byte = data[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
    raise BadCheckpoint("a number that never ends")
