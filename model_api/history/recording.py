"""Noting predictions without ever keeping one waiting: a bounded queue, and one thread that writes."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from model_api.errors import DatabaseDown
from model_api.history.entries import OTHER, Entry, Keeping, Row, rows_of

log = logging.getLogger(__name__)

BATCH_ROWS = 500
BATCH_S = 1.0
MAX_ROWS = 20_000  # that wait, in all
MAX_BYTES = 64 * 2**20  # that they take, about
MAX_SOURCES = 50  # that are told apart within an hour; who made up more would fill the sums
MAX_GIVE_UP_S = 5.0  # at the end, for what waits still
_RETRY_S = (1.0, 2.0, 5.0, 10.0)
_REST_EVERY = 4  # rows; then requests have the interpreter
_REST_S = 0.0003


class Writes(Protocol):
    """Store.add."""

    def __call__(self, rows: Sequence[Row]) -> object: ...


class Counts(Protocol):
    """Who counts; any thread, must not block."""

    def count_history(self, event: str, n: int) -> None:
        """Predictions that were `kept`, or lost: `full` (too many waited), `refused` (the database did), `stopped`."""

    def show_shifts(self, shifts: Mapping[tuple[str, str], float]) -> None:
        """(model, `labels` or `scores`) -> how far they have shifted in seven days."""


class Recorder:
    """`note` is for request threads; everything else is on the thread of this class, which `start` starts."""

    def __init__(self, write: Writes, keeping: Keeping, sample_rate: float, counts: Counts) -> None:
        """`write` may raise DatabaseDown; then the same rows are written later."""
        self._write, self._keeping, self._sample_rate, self._counts = write, keeping, sample_rate, counts
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._rows = self._bytes = 0
        self._enough = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)
        self._sources: set[str] = set()
        self._sources_hour = 0
        self._random = random.Random()  # noqa: S311 - a sample, no secret

    def start(self) -> None:
        self._thread.start()

    def note(self, entry: Entry) -> None:
        """Never waits, never raises."""
        if self._sample_rate < 1 and self._random.random() >= self._sample_rate:
            return
        n_rows = len(entry.predictions)
        with self._lock:
            full = self._rows + n_rows > MAX_ROWS or self._bytes + entry.size_bytes > MAX_BYTES
            if not full:
                self._entries.append(entry)
                self._rows += n_rows
                self._bytes += entry.size_bytes
                enough = self._rows >= BATCH_ROWS
        if full:
            self._counts.count_history("full", n_rows)
        elif enough:
            self._enough.set()

    def stop(self) -> None:
        """What waits is written, if that is quick."""
        self._stopping.set()
        self._enough.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._enough.wait(BATCH_S)
            self._enough.clear()
            self._drain(lambda: self._stopping.is_set())
        give_up = time.monotonic() + MAX_GIVE_UP_S
        self._drain(lambda: time.monotonic() > give_up)
        with self._lock:
            left, self._rows = self._rows, 0
            self._entries.clear()
        if left:
            self._counts.count_history("stopped", left)

    def _drain(self, ended: Callable[[], bool]) -> None:
        """Write what waits, batch by batch."""
        while batch := self._take():
            n_rows = sum(len(entry.predictions) for entry in batch)
            try:
                self._keep(self._rows_of(batch), ended)
            except Exception:  # one odd prediction must not end the history
                log.exception("predictions were not kept", extra={"fields": {"count": n_rows}})
                self._counts.count_history("refused", n_rows)
            with self._lock:
                self._rows -= n_rows
                self._bytes -= sum(entry.size_bytes for entry in batch)

    def _take(self) -> list[Entry]:
        batch: list[Entry] = []
        n_rows = 0
        with self._lock:
            while self._entries and (not batch or n_rows + len(self._entries[0].predictions) <= BATCH_ROWS):
                batch.append(self._entries.popleft())
                n_rows += len(batch[-1].predictions)
        return batch

    def _rows_of(self, batch: Sequence[Entry]) -> list[Row]:
        pace = _Pace()
        rows = [row for entry in batch for row in rows_of(entry, self._keeping, pace)]
        if rows and rows[-1]["hour"] != self._sources_hour:
            self._sources_hour = rows[-1]["hour"]
            self._sources.clear()
        for row in rows:
            row["source"] = bounded(row["source"], self._sources)
        return rows

    def _keep(self, rows: Sequence[Row], ended: Callable[[], bool]) -> None:
        """Until the database takes them: meanwhile the queue fills, and what doesn't fit is counted."""
        for attempt in range(1_000_000):
            try:
                if rows:
                    self._write(rows)
                self._counts.count_history("kept", len(rows))
                return
            except DatabaseDown as error:
                if attempt == 0:
                    log.error("the history can't be kept", extra={"fields": {"error": str(error)}})
                if ended():
                    break
                self._stopping.wait(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
        self._counts.count_history("refused", len(rows))


class _Pace:
    """Called after every row: lets others have the interpreter, which a loop would hold for milliseconds."""

    def __init__(self) -> None:
        self._n = 0

    def __call__(self) -> None:
        self._n += 1
        if self._n % _REST_EVERY == 0:
            time.sleep(_REST_S)


def bounded(source: str, known: set[str]) -> str:
    """The same, or "other" once there are too many; `known` grows."""
    if source in known or len(known) < MAX_SOURCES:
        known.add(source)
        return source
    return OTHER
