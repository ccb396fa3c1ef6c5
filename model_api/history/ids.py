"""Ids of predictions: whole numbers below 2^63, in the order of time, drawn without asking the database.

41 bits of milliseconds since 2020, 10 bits of chance per process, 12 bits that count. Two processes that drew the same
chance may meet; who then finds an id taken draws again (`Ids.anew`).
"""

import secrets
import threading

EPOCH_MS = 1_577_836_800_000  # 2020-01-01 in UTC
_NODE_BITS, _COUNT_BITS = 10, 12
_SHIFT = _NODE_BITS + _COUNT_BITS


class Ids:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ms = self._count = 0
        self.anew()

    def anew(self) -> None:
        """Other ids than before."""
        self._node = secrets.randbelow(1 << _NODE_BITS)

    def draw(self, created_ms: int) -> int:
        """An id for what happened then, or a moment later where that is later: ids of a process only grow."""
        with self._lock:
            self._count += 1
            if created_ms > self._ms:
                self._ms, self._count = created_ms, 0
            elif self._count >> _COUNT_BITS:
                self._ms, self._count = self._ms + 1, 0
            return ((self._ms - EPOCH_MS) << _SHIFT) | (self._node << _COUNT_BITS) | self._count


def first_id(ms: int) -> int:
    """The least id of that millisecond."""
    return max(0, ms - EPOCH_MS) << _SHIFT
