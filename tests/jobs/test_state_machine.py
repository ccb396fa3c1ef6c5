"""The machine over every store."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from model_api.jobs.fleet.objects import S3Objects
from model_api.jobs.fleet.records import DynamoRecords
from model_api.jobs.objects import FileObjects, Objects, Signer
from model_api.jobs.records import Records, SqliteRecords
from tests.jobs.state_machine import JobsMachine
from tests.rigs.fleet import OPTIONS, Cloud, cloud


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
TestEmbedded.settings = settings(max_examples=200, stateful_step_count=60, suppress_health_check=list(HealthCheck))


class FleetMachine(JobsMachine):
    """DynamoDB and S3."""

    aws: Cloud

    def open_stores(self, clock: Callable[[], float]) -> tuple[Records, Objects]:
        if not hasattr(self, "table"):
            self.table, self.bucket = self.aws.new_table(), self.aws.new_bucket()
        return (
            DynamoRecords(self.table, clock, endpoint_url=self.aws.dynamodb_url, **OPTIONS),
            S3Objects(self.bucket, endpoint_url=self.aws.moto_url, **OPTIONS),
        )


@pytest.mark.integration
def test_fleet(tmp_path: Path) -> None:
    """Few examples: each step is a request."""
    with cloud(tmp_path) as FleetMachine.aws:
        few = settings(max_examples=10, stateful_step_count=25, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(FleetMachine, settings=few)
