"""The machine over every store."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings

from model_api.jobs.objects import FileObjects, Objects, Signer
from model_api.jobs.records import Records, SqliteRecords
from tests.jobs.state_machine import JobsMachine


class EmbeddedMachine(JobsMachine):
    """SQLite and files. A restart opens them anew without having closed them, as after a kill."""

    def open_stores(self, clock: Callable[[], float]) -> tuple[Records, Objects]:
        if not hasattr(self, "folder"):
            self.folder = Path(tempfile.mkdtemp(prefix="jobs-machine-", dir="/dev/shm"))
            self.opened: list[SqliteRecords] = []
        self.opened.append(SqliteRecords(self.folder / "jobs.sqlite", clock))
        return self.opened[-1], FileObjects(self.folder / "objects", Signer(b"secret"))

    def close_stores(self) -> None:
        for records in self.opened:
            records.close()
        shutil.rmtree(self.folder)


TestEmbedded = EmbeddedMachine.TestCase
TestEmbedded.settings = settings(
    max_examples=200, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
