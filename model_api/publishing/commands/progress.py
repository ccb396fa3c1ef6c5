"""A progress line on standard error with rate and time left. Stdlib only, Python 3.9: authors run it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from model_api.repository.units import mb

_REDRAW_S, _PLAIN_S = 0.1, 5.0


class ProgressLine:
    """A context manager whose `show` is a Progress. On a terminal one line that is redrawn; elsewhere a plain line
    every few seconds."""

    def __init__(self, what: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._stream, self._clock = what, stream or sys.stderr, clock
        self._terminal = self._stream.isatty()
        self._started_s = self._shown_s = clock()
        self._drawn = False

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn and self._terminal:
            self._stream.write("\n")
            self._stream.flush()

    def show(self, done_bytes: int, total_bytes: int) -> None:
        """Draw, if it is time again or this is the end."""
        now_s = self._clock()
        every_s = _REDRAW_S if self._terminal else _PLAIN_S
        finished = done_bytes >= total_bytes
        if now_s - self._shown_s < every_s and not (finished and (self._terminal or self._drawn)):
            return
        self._shown_s, self._drawn = now_s, True
        line = describe(self._what, done_bytes, total_bytes, now_s - self._started_s)
        self._stream.write(f"\r{line:<78}" if self._terminal else f"{line}\n")
        self._stream.flush()


def describe(what: str, done_bytes: int, total_bytes: int, elapsed_s: float) -> str:
    """ "copying 212 MB of 438 MB, 48 %, 93 MB/s, 3 s left"."""
    percent = 100 * done_bytes // total_bytes if total_bytes else 100
    line = f"{what} {mb(done_bytes)} of {mb(total_bytes)}, {percent} %"
    if elapsed_s <= 0 or done_bytes <= 0:
        return line
    rate = done_bytes / elapsed_s
    left_s = (total_bytes - done_bytes) / rate
    left = f"{left_s:.0f} s left" if left_s < 120 else f"{left_s / 60:.0f} min left"
    return f"{line}, {mb(int(rate))}/s" + (f", {left}" if done_bytes < total_bytes else "")
