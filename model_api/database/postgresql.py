"""Connections to PostgreSQL that don't wait for ever: a server that hangs acknowledges every byte and answers none."""

from typing import Any

import psycopg
from psycopg import errors


class BoundedConnection(psycopg.Connection[Any]):
    """One for which nobody waits longer than `limit_s`."""

    limit_s = 60.0

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As its base has it; all waiting for the server goes through here."""
        try:
            return super().wait(gen, interval, self.limit_s if timeout is None else timeout)
        except errors._WaitTimeout as error:
            self.close()  # an answer that comes later would be taken for the next one's
            raise psycopg.OperationalError(f"no answer within {self.limit_s:g} s") from error
