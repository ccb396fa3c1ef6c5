"""The thread that writes this instance's status for the authors' commands. It may hang or fail: serving never waits."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from model_api.errors import RepositoryUnavailable
from model_api.instance.serving_table import ServingTable
from model_api.repository.layout import Layout, mount_check
from model_api.repository.statuses import beat_status, read_statuses, remove_status, write_status
from model_api.settings import Settings

log = logging.getLogger(__name__)


class StatusReporter:
    """Writes what `describe` says into the status folder when that changed, and a heartbeat in between."""

    def __init__(
        self,
        settings: Settings,
        describe: Callable[[], list[dict[str, Any]]],
        serving: ServingTable,
        heartbeat_s: Callable[[], float],
    ) -> None:
        """`heartbeat_s`: the pause between two heartbeats, as of now."""
        self._settings = settings
        self._describe = describe
        self._serving = serving
        self._heartbeat_s = heartbeat_s
        self._told: dict[str, Any] | None = None  # what the file says
        self._told_at = 0.0
        self._stop = threading.Event()
        self._told_failure = ""
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Sign off, unless that would take long."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _folder(self) -> Path:
        """Raises RepositoryUnavailable rather than write into the empty folder where the file system isn't mounted."""
        if self._settings.status_dir is not None:
            return self._settings.status_dir
        mount_check(self._settings.efs_root)
        return Layout(self._settings.efs_root).statuses

    def _document(self) -> dict[str, Any]:
        only = {} if self._settings.models is None else {"only": list(self._settings.models)}
        sim = self._settings.sim_model or self._serving.sim_model()
        return {"models": [_without_timelines(model) for model in self._describe()], "sim": sim, **only}

    def _ask_others(self) -> None:
        """Once, where nothing here says which model answers /sim: it is what the others answer with."""
        if not self._serving.asks_for_sim_model():
            return
        used: Counter[str] = Counter()
        with suppress(OSError, RepositoryUnavailable):
            used.update(status.sim for status in read_statuses(self._folder()).values() if status.sim)
        self._serving.hear_sim_model(min(used, key=lambda name: (-used[name], name), default=None))

    def _report(self) -> None:
        """Raises RepositoryUnavailable, OSError."""
        document, now = self._document(), time.monotonic()
        if document != self._told:
            write_status(self._folder(), self._settings.instance, document)
        elif now - self._told_at < self._heartbeat_s():
            return
        else:
            try:
                beat_status(self._folder(), self._settings.instance)
            except FileNotFoundError:  # somebody took this instance for dead
                write_status(self._folder(), self._settings.instance, document)
        self._told, self._told_at = document, now

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask_others()
                self._report()
                self._told_failure = ""
            except Exception as error:
                self._told = None
                # Read-only models and no status folder are an ordinary way to run; so it's no warning, and told once.
                if type(error).__name__ != self._told_failure:
                    log.info("no status is written", extra={"fields": {"reason": str(error)}})
                self._told_failure = type(error).__name__
            self._stop.wait(self._settings.poll_s)
        try:
            remove_status(self._folder(), self._settings.instance)
        except Exception as error:
            log.debug("the status could not be removed", extra={"fields": {"reason": str(error)}})


def _without_timelines(model: dict[str, Any]) -> dict[str, Any]:
    """They are long, and change with every block that is copied."""
    return {
        **model,
        "versions": [{k: v for k, v in version.items() if k != "timeline"} for version in model["versions"]],
    }
