"""Looks at many folders, each in its turn: one that hangs keeps a thread, and nobody else.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Seen = TypeVar("Seen")

_MOST_THREADS = 16
_SLOW_S = 0.05  # after so long without an answer another thread helps along


@dataclass
class _Turn(Generic[Seen]):
    look: Callable[[str], Seen]
    todo: deque[str]
    seen: dict[str, Seen] = field(default_factory=dict)


class FairLooks(Generic[Seen]):
    """`take_turns` is for one thread; the looks run on daemon threads, several at a time where they are slow."""

    def __init__(self, thread_name: str, patience_s: float = 2.0) -> None:
        """After `patience_s` without any answer, what is still under way is left behind."""
        self._thread_name = thread_name
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._under_way: dict[str, float] = {}  # name -> since when, time.monotonic() seconds

    def hanging_s(self, name: str) -> float | None:
        """For how long a look at `name` has given no answer; None if none is under way."""
        with self._changed:
            since = self._under_way.get(name)
        return None if since is None else time.monotonic() - since

    def take_turns(self, names: Sequence[str], look: Callable[[str], Seen]) -> dict[str, Seen]:
        """What `look` returned for each name, in no order. Left out are those that hang, now or since an earlier turn
        (their answer is thrown away when it comes), and those for which no thread was left. `look` raises nothing."""
        turn = _Turn(look, deque())
        with self._changed:
            turn.todo.extend(name for name in names if name not in self._under_way)
            wanted, moved_at = len(turn.todo), time.monotonic()
            while len(turn.seen) < wanted:
                n_seen = len(turn.seen)
                self._help(turn)
                self._changed.wait_for(lambda: len(turn.seen) == wanted, timeout=_SLOW_S)
                if len(turn.seen) > n_seen:
                    moved_at = time.monotonic()
                elif time.monotonic() - moved_at > self._patience_s and not self._may_help(turn):
                    break
            turn.todo.clear()
            return dict(turn.seen)

    def _may_help(self, turn: _Turn[Seen]) -> bool:
        return bool(turn.todo) and len(self._under_way) < _MOST_THREADS

    def _help(self, turn: _Turn[Seen]) -> None:
        """One more thread for this turn. Under the lock."""
        if self._may_help(turn):
            name = self._take(turn)
            threading.Thread(target=self._run, args=(turn, name), name=self._thread_name, daemon=True).start()

    def _take(self, turn: _Turn[Seen]) -> str:
        name = turn.todo.popleft()
        self._under_way[name] = time.monotonic()
        return name

    def _run(self, turn: _Turn[Seen], name: str) -> None:
        while True:
            seen = turn.look(name)
            with self._changed:
                del self._under_way[name]
                turn.seen[name] = seen
                if not turn.todo:
                    self._changed.notify_all()
                    return
                name = self._take(turn)
