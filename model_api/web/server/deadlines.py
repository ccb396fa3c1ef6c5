"""Which connection's time is up next. The main thread's."""

import heapq
import itertools
from collections.abc import Iterator

from model_api.web.server.connection import Connection

NEVER = float("inf")


class Deadlines:
    """Connections by `deadline`, which may be put off without a word here: then they are looked at again."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Connection]] = []
        self._numbers = itertools.count()

    def watch(self, connection: Connection) -> None:
        """Its deadline was set; maybe to an earlier time than before."""
        if connection.deadline < connection.looked_at_by:
            connection.looked_at_by = connection.deadline
            heapq.heappush(self._heap, (connection.deadline, next(self._numbers), connection))

    def next(self) -> float:
        return self._heap[0][0] if self._heap else NEVER

    def passed(self, now: float) -> Iterator[Connection]:
        """Those whose time is up and who wait for something."""
        while self._heap and self._heap[0][0] <= now:
            looked_at, _, connection = heapq.heappop(self._heap)
            if looked_at != connection.looked_at_by:
                continue  # an earlier look was asked for meanwhile
            connection.looked_at_by = NEVER
            if not connection.events:
                continue  # it is with a thread, or gone
            if connection.deadline > now:
                self.watch(connection)
            else:
                yield connection
