"""Slow work beside a thread that must not wait: at most one piece at a time, asked for by key.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from model_api.errors import Refused

Result = TypeVar("Result")


class SideWork(Generic[Result]):
    """Owned by one thread, which calls all methods; none of them blocks. The worker is a daemon thread that lives for
    one piece of work: a read that hangs for ever on the shared file system must not keep the process from exiting."""

    def __init__(self, thread_name: str) -> None:
        self._thread_name = thread_name
        self._thread: threading.Thread | None = None
        self._key = ""
        self._outcome: list[Result | Refused | OSError] = []

    def start(self, key: str, work: Callable[[], Result]) -> bool:
        """Begin `work` for `key`, unless something is under way or an outcome is still to be fetched."""
        if self._thread is not None:
            return False
        outcome: list[Result | Refused | OSError] = []

        def run() -> None:
            try:
                outcome.append(work())
            except (Refused, OSError) as error:
                outcome.append(error)

        self._key, self._outcome = key, outcome
        self._thread = threading.Thread(target=run, name=self._thread_name, daemon=True)
        self._thread.start()
        return True

    def outcome(self, key: str) -> Result | Refused | OSError | None:
        """The result of `key`'s work, given out once; None while there is nothing to say."""
        if self._thread is None or self._thread.is_alive():
            return None
        self._thread.join()
        if not self._key:  # forgotten meanwhile
            self._thread = None
            return None
        if self._key != key:
            return None
        self._thread = None
        return self._outcome.pop() if self._outcome else OSError("the work ended without an outcome")

    def forget(self, key: str) -> None:
        """`key`'s outcome no longer matters; the thread finishes by itself."""
        if self._key == key:
            self._key = ""
