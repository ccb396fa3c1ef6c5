"""What a fleet's jobs need of AWS: Amazon's own DynamoDB Local, and S3 and SQS by moto. All on loopback."""

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from model_api.jobs.fleet.records import table_definition
from tests.needs import needs
from tests.rigs.free_port import free_port
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT

OPTIONS: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
DYNAMODB_LOCAL = ROOT / ".venvs" / "dynamodb-local"
MOTO_SERVER = ROOT / ".venvs" / "deploy" / "bin" / "moto_server"


@dataclass(frozen=True)
class Cloud:
    """Where they listen."""

    dynamodb_url: str
    moto_url: str

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.url(service), **OPTIONS)

    def url(self, service: str) -> str:
        return self.dynamodb_url if service == "dynamodb" else self.moto_url

    def new_table(self) -> str:
        name = f"jobs-{secrets.token_hex(6)}"
        self.client("dynamodb").create_table(**table_definition(name))
        return name

    def new_bucket(self) -> str:
        name = f"jobs-{secrets.token_hex(6)}"
        place = {"LocationConstraint": OPTIONS["region_name"]}
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
        return name

    def new_queue(self) -> str:
        return str(self.client("sqs").create_queue(QueueName=f"jobs-{secrets.token_hex(6)}")["QueueUrl"])


@contextlib.contextmanager
def cloud(folder: Path) -> Iterator[Cloud]:
    """Both servers, once they answer."""
    needs("java")
    needs(str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"))
    needs(str(MOTO_SERVER))
    dynamodb_port, moto_port = free_port(), free_port()
    library = f"-Djava.library.path={DYNAMODB_LOCAL / 'DynamoDBLocal_lib'}"
    how = ["-port", str(dynamodb_port), "-inMemory", "-sharedDb", "-disableTelemetry"]
    commands = (
        ["java", library, "-jar", str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"), *how],
        [str(MOTO_SERVER), "--host", "127.0.0.1", "--port", str(moto_port)],
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"aws-{number}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=DYNAMODB_LOCAL))
        found = Cloud(f"http://127.0.0.1:{dynamodb_port}", f"http://127.0.0.1:{moto_port}")
        for service, call in (("dynamodb", "list_tables"), ("sqs", "list_queues")):
            wait_until(lambda s=service, c=call: _answers(found, s, c), within_s=60, every_s=0.1, what=service)  # type: ignore[misc]
        yield found
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


def _answers(found: Cloud, service: str, call: str) -> bool:
    with contextlib.suppress(Exception):
        getattr(found.client(service), call)()
        return True
    return False
