"""Looking after what is kept: pairs of texts are scored, shifts are shown, and what is old goes. One thread."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from model_api.errors import ModelApiError
from model_api.history.entries import text_of
from model_api.history.recording import Counts

if TYPE_CHECKING:
    from model_api.history.store import Store

log = logging.getLogger(__name__)

LOOK_S = 2.0  # between looks for pairs to score
SHIFTS_EVERY_S = 600.0
OLD_EVERY_S = 3600.0
PAIRS_AT_ONCE = 16
ROWS_AT_ONCE = 1000  # that go in one transaction
DAY_MS = 86_400_000
MAX_MODELS = 50  # whose shifts are shown
# (reference, prediction) of texts -> their five scores, None for a pair that is too long. Raises ServingError.
Score = Callable[[Sequence[tuple[str, str]]], Sequence[dict[str, float] | None]]


class Keeper:
    """Whatever fails is tried again at the next look."""

    def __init__(self, store: "Store", days: float, score: Score | None, counts: Counts) -> None:
        self._store, self._days, self._score, self._counts = store, days, score, counts
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history-keeper", daemon=True)
        self._told = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        shifts_at = old_at = time.monotonic()
        while not self._stopping.wait(LOOK_S):
            try:
                while self._score is not None and self.score_pairs() and not self._stopping.is_set():
                    pass
                if time.monotonic() >= shifts_at:
                    shifts_at = time.monotonic() + SHIFTS_EVERY_S
                    self.show_shifts()
                if time.monotonic() >= old_at:
                    old_at = time.monotonic() + OLD_EVERY_S
                    self.drop_old()
            except ModelApiError as error:
                if str(error) != self._told:
                    self._told = str(error)
                    log.warning("the history can't be looked after", extra={"fields": {"error": str(error)}})
            except Exception:
                log.exception("the history can't be looked after")

    def score_pairs(self) -> bool:
        """Score some that wait; whether more may."""
        assert self._score is not None
        waiting = self._store.waiting_pairs(PAIRS_AT_ONCE)
        pairs = []
        for _, reference, prediction in waiting:
            pairs.append((str(orjson.loads(reference)), text_of(orjson.loads(prediction)) or ""))
        if pairs:
            scores = self._score(pairs)
            self._store.score_pairs({row[0]: found for row, found in zip(waiting, scores, strict=True)})
        return len(waiting) == PAIRS_AT_ONCE

    def show_shifts(self) -> None:
        """Of the last seven days against the seven before."""
        from model_api.history.periods import Span
        from model_api.history.queries import Filter, models, shifts

        now = datetime.now(UTC)
        span = Span(now - timedelta(days=7), now)
        found: dict[tuple[str, str], float] = {}
        for model in models(self._store, span)[:MAX_MODELS]:
            shifted = shifts(self._store, Filter(model), span)
            found |= {(model, of): shifted[of] for of in ("labels", "scores") if shifted[of] is not None}
        self._counts.show_shifts(found)

    def drop_old(self) -> None:
        """Forget predictions that are older than they may be."""
        limit_ms = int(time.time() * 1000 - self._days * DAY_MS)
        while self._store.drop_before(limit_ms, ROWS_AT_ONCE) == ROWS_AT_ONCE:
            if self._stopping.wait(0.05):  # others want to write
                return
