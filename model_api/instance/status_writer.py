"""The thread that writes this instance's status for the authors' commands. It may hang or fail: serving never waits."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_api.errors import RepositoryUnavailable
from model_api.repository.layout import Layout, mount_check
from model_api.repository.statuses import remove_status, write_status
from model_api.settings import Settings

log = logging.getLogger(__name__)


class StatusReporter:
    """Writes what `describe` says into the status folder, a heartbeat with every poll."""

    def __init__(self, settings: Settings, describe: Callable[[], list[dict[str, Any]]]) -> None:
        self._settings = settings
        self._describe = describe
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

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                write_status(self._folder(), self._settings.instance, {"models": self._describe()})
                self._told_failure = ""
            except (OSError, RepositoryUnavailable) as error:
                # Read-only models and no status folder are an ordinary way to run; so it's no warning, and told once.
                if type(error).__name__ != self._told_failure:
                    log.info("no status is written", extra={"fields": {"reason": str(error)}})
                self._told_failure = type(error).__name__
            self._stop.wait(self._settings.poll_s)
        try:
            remove_status(self._folder(), self._settings.instance)
        except (OSError, RepositoryUnavailable) as error:
            log.debug("the status could not be removed", extra={"fields": {"reason": str(error)}})
