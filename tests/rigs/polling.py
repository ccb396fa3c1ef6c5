"""Waiting for a condition of another process, where there is no event to wait for."""

import time
from collections.abc import Callable
from typing import TypeVar

Seen = TypeVar("Seen")


def wait_until(look: Callable[[], Seen], *, within_s: float = 10.0, every_s: float = 0.02, what: str = "") -> Seen:
    """What `look` returns as soon as that is true. Fails after `within_s` with `what` and the last that was seen."""
    deadline = time.monotonic() + within_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what or look!r}; last seen: {seen!r}")
        time.sleep(every_s)
