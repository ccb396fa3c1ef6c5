"""CRC-32C (Castagnoli) of large arrays, fast enough without a library of its own: many lanes side by side in numpy."""

from functools import cache

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # reflected
_LANES = 65536
_SMALL_BYTES = 16 * _LANES

_Table = npt.NDArray[np.uint32]


@cache
def _table() -> _Table:
    """What a byte makes of the lowest eight bits."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def crc32c(data: bytes) -> int:
    """The checksum of `data`."""
    whole = np.frombuffer(data, np.uint8)
    lane_bytes = len(data) // _LANES if len(data) >= _SMALL_BYTES else 0
    crc = 0xFFFFFFFF
    if lane_bytes:
        # A checksum is linear: each lane starts from nought, and passing over the lanes behind it is one matrix.
        lanes = np.ascontiguousarray(whole[: lane_bytes * _LANES].reshape(_LANES, lane_bytes).T)
        states, table = np.zeros(_LANES, np.uint32), _table()
        for row in lanes:
            states = table[(states ^ row) & 0xFF] ^ (states >> 8)
        skip = _skipping(lane_bytes)
        for state in states.tolist():
            crc = _times(skip, crc) ^ state
    table_list = _table().tolist()
    for byte in data[lane_bytes * _LANES :]:
        crc = table_list[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _skipping(n_bytes: int) -> tuple[int, ...]:
    """The matrix (a column per bit) of what `n_bytes` zero bytes do to a state."""
    table = _table().tolist()
    power = tuple(table[(1 << bit) & 0xFF] ^ ((1 << bit) >> 8) for bit in range(32))
    result = tuple(1 << bit for bit in range(32))
    while n_bytes:
        if n_bytes & 1:
            result = tuple(_times(power, column) for column in result)
        power = tuple(_times(power, column) for column in power)
        n_bytes >>= 1
    return result


def _times(matrix: tuple[int, ...], vector: int) -> int:
    product = 0
    for column in matrix:
        if vector & 1:
            product ^= column
        vector >>= 1
        if not vector:
            break
    return product
