"""What a fleet's jobs use of AWS, running here: Amazon's own DynamoDB Local, and S3, SQS and CloudFormation by moto.

moto's DynamoDB isn't used: it loses races. Table, bucket and queues are those of scripts/beanstalk/jobs.yaml.
"""

import contextlib
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from scripts.beanstalk.stack import JOBS_TEMPLATE
from scripts.beanstalk.template import read_template, table_of

ROOT = Path(__file__).resolve().parents[2]
DYNAMODB_LOCAL = ROOT / ".venvs" / "dynamodb-local"
MOTO_SERVER = ROOT / ".venvs" / "deploy" / "bin" / "moto_server"
OPTIONS: dict[str, Any] = {
    "region_name": "eu-central-1",
    "aws_access_key_id": "test",
    "aws_secret_access_key": "test",
}
START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Resources:
    """What the stack's outputs would be."""

    table: str
    bucket: str
    queue_url: str
    dead_letters_url: str


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
        self.client("dynamodb").create_table(**table_of(read_template(JOBS_TEMPLATE), name))
        return name

    def new_bucket(self) -> str:
        name = f"jobs-{secrets.token_hex(6)}"
        place = {"LocationConstraint": OPTIONS["region_name"]}
        self.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
        return name

    def new_queue(self, **attributes: str) -> str:
        created = self.client("sqs").create_queue(QueueName=f"jobs-{secrets.token_hex(6)}", Attributes=attributes)
        return str(created["QueueUrl"])

    def environment(self, found: Resources) -> dict[str, str]:
        """The properties of instances that use them."""
        return {
            "MODEL_API_JOBS_TABLE": found.table,
            "MODEL_API_JOBS_BUCKET": found.bucket,
            "MODEL_API_JOBS_QUEUE_URL": found.queue_url,
            "AWS_ENDPOINT_URL_DYNAMODB": self.dynamodb_url,
            "AWS_ENDPOINT_URL_S3": self.moto_url,
            "AWS_ENDPOINT_URL_SQS": self.moto_url,
            "AWS_DEFAULT_REGION": OPTIONS["region_name"],
            "AWS_ACCESS_KEY_ID": OPTIONS["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": OPTIONS["aws_secret_access_key"],
        }

    def put_resources(self) -> Resources:
        """As jobs.yaml has them: the queue gives up into the dead letters, and hears of uploads into the bucket."""
        resources, sqs = read_template(JOBS_TEMPLATE)["Resources"], self.client("sqs")
        dead_letters_url = self.new_queue()
        queue = resources["Queue"]["Properties"]
        tries = queue["RedrivePolicy"]["maxReceiveCount"]
        redrive = f'{{"deadLetterTargetArn": "{_arn(sqs, dead_letters_url)}", "maxReceiveCount": {tries}}}'
        queue_url = self.new_queue(RedrivePolicy=redrive)
        bucket, s3 = self.new_bucket(), self.client("s3")
        (told,) = resources["Bucket"]["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
        rules = {"FilterRules": told["Filter"]["S3Key"]["Rules"]}
        configuration = {"QueueArn": _arn(sqs, queue_url), "Events": [told["Event"]], "Filter": {"Key": rules}}
        s3.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [configuration]}
        )
        return Resources(self.new_table(), bucket, queue_url, dead_letters_url)


def _arn(sqs: Any, queue_url: str) -> str:
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return str(found["Attributes"]["QueueArn"])


@contextlib.contextmanager
def cloud(
    folder: Path,
    ports: tuple[int, int],
    *,
    host: str = "127.0.0.1",
    within: Sequence[str] = (),
    entering: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
) -> Iterator[Cloud]:
    """Both servers, once they answer. `within` begins their command lines, and `entering` is around what is asked of
    them, where they listen in another network."""
    dynamodb_port, moto_port = ports
    library = f"-Djava.library.path={DYNAMODB_LOCAL / 'DynamoDBLocal_lib'}"
    how = ["-port", str(dynamodb_port), "-inMemory", "-sharedDb", "-disableTelemetry"]
    commands = (
        ["java", library, "-jar", str(DYNAMODB_LOCAL / "DynamoDBLocal.jar"), *how],
        [str(MOTO_SERVER), "--host", host, "--port", str(moto_port)],
    )
    running: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"aws-{number}.log").open("wb") as log:
                running.append(subprocess.Popen([*within, *command], stdout=log, stderr=log, cwd=DYNAMODB_LOCAL))
        found = Cloud(f"http://{host}:{dynamodb_port}", f"http://{host}:{moto_port}")
        deadline = time.monotonic() + START_TIMEOUT_S
        for service, call in (("dynamodb", "list_tables"), ("sqs", "list_queues")):
            with entering():
                while not _answers(found, service, call):
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{service} doesn't answer; see aws-*.log in {folder}")
                    time.sleep(0.1)
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
