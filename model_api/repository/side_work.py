"""Slow work beside a thread that must not wait: a few pieces at a time, each key in its turn.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Result = TypeVar("Result")
OnProgress = Callable[[], None]

_MOST_THREADS = 32


@dataclass
class _Piece(Generic[Result]):
    """One piece of work. `moved_at` is its last sign of life, in time.monotonic() seconds."""

    work: Callable[[OnProgress], Result]
    wanted: bool = True
    running: bool = False
    moved_at: float = 0.0
    outcome: list[Result | Exception] = field(default_factory=list)

    def progress(self) -> None:
        self.moved_at = time.monotonic()


class SideWork(Generic[Result]):
    """None of the methods blocks; any thread. Workers are daemon threads that live for one piece of work: a read that
    hangs for ever on the shared file system must not keep the process from exiting. What gave no sign of life for
    `patience_s` counts no longer among the `at_a_time`, so that what hangs never keeps the others waiting."""

    def __init__(self, thread_name: str, at_a_time: int = 2, patience_s: float = 20.0) -> None:
        self._thread_name = thread_name
        self._at_a_time = at_a_time
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._pieces: dict[str, _Piece[Result]] = {}  # in the order in which they were asked for

    def ask(self, key: str, work: Callable[[OnProgress], Result]) -> None:
        """Have `work` done for `key`, unless that is under way or its outcome is still to be fetched. `work` calls
        its argument as it gets on. While an earlier piece of the same key runs, this must be asked again later."""
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = _Piece(work)
            self._start_some()

    def is_running(self, key: str) -> bool:
        """False while `key` waits for its turn, and when there is nothing to do for it."""
        with self._lock:
            piece = self._pieces.get(key)
            return piece is not None and piece.running

    def outcome(self, key: str) -> Result | Exception | None:
        """What `key`'s work gave or raised, once; None while there is nothing to say."""
        with self._lock:
            self._start_some()
            piece = self._pieces.get(key)
            if piece is None or not piece.wanted or not piece.outcome:
                return None
            del self._pieces[key]
            return piece.outcome[0]

    def forget(self, key: str) -> None:
        """`key`'s outcome no longer matters; what runs finishes by itself."""
        with self._lock:
            piece = self._pieces.get(key)
            if piece is not None:
                piece.wanted = False
                if not piece.running:
                    del self._pieces[key]

    def _start_some(self) -> None:
        """Under the lock."""
        patient_since = time.monotonic() - self._patience_s
        running = [piece for piece in self._pieces.values() if piece.running]
        moving = sum(piece.moved_at >= patient_since for piece in running)
        for key, piece in self._pieces.items():
            if moving >= self._at_a_time or len(running) >= _MOST_THREADS:
                return
            if not piece.running and not piece.outcome:
                piece.running = True
                piece.progress()
                threading.Thread(target=self._run, args=(key, piece), name=self._thread_name, daemon=True).start()
                running.append(piece)
                moving += 1

    def _run(self, key: str, piece: _Piece[Result]) -> None:
        try:
            outcome: Result | Exception = piece.work(piece.progress)
        except Exception as error:
            outcome = error
        with self._lock:
            piece.running = False
            piece.outcome.append(outcome)
            if not piece.wanted:
                del self._pieces[key]
            self._start_some()
