"""Telling others that something happened to a job."""

import threading
from typing import Protocol


class Wakeup(Protocol):
    """Tells workers that a job is waiting. What it tells may get lost, come twice or too late: the records are the
    truth. Never raises."""

    def wake(self, job_id: str, delay_s: float) -> None: ...


class Changes:
    """What happened in this process: a number that grows, and threads that wait for it to. Any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._number = 0

    @property
    def number(self) -> int:
        return self._number

    def note(self) -> None:
        with self._condition:
            self._number += 1
            self._condition.notify_all()

    def wait(self, seen: int, timeout_s: float) -> None:
        """Until the number isn't `seen` any more."""
        with self._condition:
            self._condition.wait_for(lambda: self._number != seen, max(0.0, timeout_s))
