"""The history of this process: opened when it is first needed, and noted into where the settings say so."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model_api.errors import DatabaseDown
from model_api.history.entries import Keeping, Row
from model_api.history.keeping import Keeper, Score
from model_api.history.recording import Counts, Recorder
from model_api.local_store.file_systems import LOCAL_TYPES, file_system_type
from model_api.settings import Settings
from model_api.settings.folders import jobs_folder

if TYPE_CHECKING:
    from model_api.history.store import Store

log = logging.getLogger(__name__)
SQLITE = "sqlite:///"
OPENING_S = 6.0  # that somebody waits for another's attempt at the database
REMEMBERED_S = 2.0  # that a failure is told without another attempt


def database_url(settings: Settings) -> str:
    """Raises DatabaseDown for an SQLite file that isn't on a disk of this machine: its locks would be no locks."""
    url = settings.database_url or f"{SQLITE}{jobs_folder(settings).absolute() / 'history.sqlite'}"
    if url.startswith(SQLITE):
        folder = Path(url.removeprefix(SQLITE)).parent
        kind = file_system_type(folder.resolve())
        if kind and kind not in LOCAL_TYPES:
            raise DatabaseDown(f"{folder} lies on {kind}, and SQLite needs a local disk: see MODEL_API_DATABASE_URL")
    return url


class History:
    """Any thread."""

    score: Score | None = None  # what scores pairs; set before `start`

    def __init__(self, settings: Settings, counts: Counts) -> None:
        """Opens and starts nothing yet."""
        self._counts = counts
        self._started = False
        self._keeper: Keeper | None = None
        self._settings = settings
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._failed: tuple[float, str] | None = None  # when, and why
        self.keeping = Keeping(text=settings.log_predictions != "hash", redact=settings.log_redact)
        self.recorder: Recorder | None = None
        if settings.log_predictions != "off" and settings.log_sample_rate > 0:
            self.recorder = Recorder(self.add, self.keeping, settings.log_sample_rate, counts)

    def start(self) -> None:
        """From now on what is kept is looked after, once anything is."""
        self._started = True
        if self.recorder is not None:
            self.recorder.start()

    def stop(self) -> None:
        if self.recorder is not None:
            self.recorder.stop()
        with self._lock:
            self._started = False
            keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    @property
    def store(self) -> "Store":
        """Opened by the first who asks. Raises DatabaseDown, and the next one tries again."""
        if (found := self._store) is not None:
            return found
        if not self._lock.acquire(timeout=OPENING_S):
            raise DatabaseDown("the database doesn't answer")
        try:
            return self._opened()
        finally:
            self._lock.release()

    def _opened(self) -> "Store":
        if self._store is not None:
            return self._store
        if self._failed is not None and time.monotonic() - self._failed[0] < REMEMBERED_S:
            raise DatabaseDown(self._failed[1])
        from model_api.history.store import Store

        try:
            self._store = Store(database_url(self._settings))
        except DatabaseDown as error:
            self._failed = (time.monotonic(), str(error))
            raise
        if self._started:
            self._keeper = Keeper(self._store, self._settings.history_days, self.score, self._counts)
            self._keeper.start()
        if self._settings.database_url is None and self._settings.jobs_table is not None:
            log.warning("the history is of this instance alone, and lost with it: see MODEL_API_DATABASE_URL")
        return self._store

    def add(self, rows: Sequence[Row]) -> list[int]:
        """Keep rows now; their ids, in order. Raises DatabaseDown."""
        return self.store.add(rows)
