"""Waiting for a condition that no event announces, with a deadline: never a bare sleep."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], within_s: float = 30.0, every_s: float = 0.002) -> T:
    """The condition's first true value. Fails the test after `within_s` seconds."""
    pause = threading.Event()
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s} s"
        pause.wait(every_s)
    return value
