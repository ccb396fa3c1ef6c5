"""The thread that looks at the shared file system. It answers no request, so it may hang as long as that hangs."""

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from model_api.errors import RepositoryUnavailable
from model_api.instance.serving_table import ServingTable
from model_api.local_store.last_seen import recall, recall_sim_model, remember
from model_api.repository.published import Published
from model_api.repository.reader import Repository

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mount:
    """The last observation of the shared file system; `age_s` is None before the first."""

    mounted: bool
    detail: str
    age_s: float | None


class Poller:
    """Looks every `poll_s` seconds, more seldom when all is quiet (with jitter, so that instances don't look all at
    once), and tells the manager what changed."""

    def __init__(
        self,
        repository: Repository,
        store: Path,
        names: Collection[str] | None,
        poll_s: float,
        serving: ServingTable,
        *,
        on_recalled: Callable[[Mapping[str, Published]], None],
        on_observed: Callable[[Mapping[str, Published]], None],
    ) -> None:
        """Both are called on this thread; `on_recalled` once, first, with what an earlier process saw (in `store`);
        `on_observed` with all that is published, whenever that changed."""
        self._repository = repository
        self._store = store
        self._names = names
        self._serving = serving
        self._on_recalled = on_recalled
        self._on_observed = on_observed
        self._stop = threading.Event()
        self._began_at: float | None = None
        self._whole_at: float | None = None
        self._failure: str | None = "not looked at yet"
        self._told_unavailable = False
        # A look that takes ten polls is a hang: NFS doesn't fail, it waits.
        self._patience_s = max(5.0, 10 * poll_s)
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def sim_choice(self) -> str | None:
        """The model that the authors chose for /sim, as of the last whole look. Any thread."""
        return self._repository.sim_choice

    def stop(self) -> None:
        """Ask it to end; it isn't waited for, since it may be hanging."""
        self._stop.set()

    def mount(self) -> Mount:
        """Any thread; never touches the file system."""
        now = time.monotonic()
        age_s = None if self._whole_at is None else round(now - self._whole_at, 3)
        began_at = self._began_at
        if began_at is not None and now - began_at > self._patience_s:
            return Mount(False, f"no answer for {now - began_at:.0f} s", age_s)
        return Mount(self._failure is None, self._failure or "ok", age_s)

    def _run(self) -> None:
        self._recall()
        self._stop.wait(self._repository.pause_before_first_s())
        while not self._stop.is_set():
            self._began_at = time.monotonic()
            alarm = threading.Timer(self._patience_s, self._tell_unavailable, [f"no answer for {self._patience_s:g} s"])
            alarm.daemon = True
            alarm.start()
            try:
                self._look(alarm)
            except RepositoryUnavailable as error:
                self._failure = str(error)
                self._tell_unavailable(str(error))
            except Exception:
                log.exception("looking at the repository failed")
                self._failure = "looking at the repository failed; see the log"
            finally:
                alarm.cancel()
            self._began_at = None
            self._stop.wait(self._repository.pause_s * random.uniform(0.9, 1.1))  # noqa: S311 - jitter, no secret

    def _look(self, alarm: threading.Timer) -> None:
        observed = self._repository.look(self._names)
        alarm.cancel()
        self._failure, self._whole_at = None, time.monotonic()
        if self._told_unavailable:
            log.info("the repository is available again")
        self._told_unavailable = False
        if observed is not None:
            self._on_observed(observed)
            self._remember(observed)

    def _tell_unavailable(self, reason: str) -> None:
        """Log it, once per outage. On the poller's thread, or on a timer's while that hangs."""
        if not self._told_unavailable:
            self._told_unavailable = True
            log.warning("the repository is unavailable", extra={"fields": {"reason": reason}})

    def _recall(self) -> None:
        remembered: dict[str, Published] = {}
        try:
            remembered = recall(self._store)
        except Exception as error:
            log.warning("what was seen last can't be read", extra={"fields": {"reason": str(error)}})
        self._repository.seed(remembered)
        sim_model = recall_sim_model(self._store)
        if sim_model is not None:
            self._serving.adopt_sim_model(sim_model)
        self._on_recalled({n: p for n, p in remembered.items() if self._names is None or n in self._names})

    def _remember(self, observed: Mapping[str, Published]) -> None:
        try:
            remember(self._store, observed, self._serving.sim_model())
        except Exception as error:
            log.warning("what was seen can't be kept for a restart", extra={"fields": {"reason": str(error)}})
