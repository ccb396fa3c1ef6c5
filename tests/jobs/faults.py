"""Stores that fail on command: a process dies before or after a step, or the store is out of reach."""

from collections.abc import Callable
from typing import Any


class Crashed(BaseException):
    """The process that was at work died here. No `except Exception` outlives it."""


class Faulty:
    """Passes every call on to `inner`. `before` and `after` are called around it, and may raise."""

    def __init__(self, inner: Any, before: Callable[[str], None], after: Callable[[str], None]) -> None:
        self._inner, self._before, self._after = inner, before, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in ("now", "address"):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            self._before(name)
            answer = found(*args, **kwargs)
            self._after(name)
            return answer

        return call
