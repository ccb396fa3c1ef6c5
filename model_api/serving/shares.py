"""How much of something scarce one caller may hold: as much as is left of it several times over.

The rule of dynamic thresholds (Choudhury and Hahne, 1998), made for the memory of network switches: whoever is alone
may hold three quarters, two may hold three sevenths each, and there is always something left for who comes next.
"""

import threading
from collections import Counter

FACTOR = 3  # a caller may hold this many times what is left


class Shares:
    """Who holds how much of `capacity`: requests, connections, bytes. Any thread; never blocks."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._total = 0

    def take(self, caller: str, amount: int = 1) -> bool:
        """Whether `caller` may have it; then it must `give_back` the same. Who holds nothing gets whatever is left."""
        with self._lock:
            held = self._held[caller] + amount
            left = self.capacity - self._total - amount
            if left < 0 or (held > FACTOR * left and held > amount):
                return False
            self._held[caller] = held
            self._total += amount
            return True

    def give_back(self, caller: str, amount: int = 1) -> None:
        with self._lock:
            self._held[caller] -= amount
            self._total -= amount
            if not self._held[caller]:
                del self._held[caller]

    def held(self, caller: str) -> int:
        with self._lock:
            return self._held.get(caller, 0)

    def total(self) -> int:
        with self._lock:
            return self._total
