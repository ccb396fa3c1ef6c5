"""Beanstalk's worker daemon, as far as an application can tell: takes messages off a queue and posts them.

usage (inside a machine):  python -m scripts.rehearsal.sqsd CONFIG     CONFIG: a file with the fields of Config as JSON

As documented: only 200 deletes a message; another answer, or none within the inactivity time-out, hides it for the
error time and lets it come again; a connection that is closed in the middle of a request is posted again at once.
Periodic tasks (cron.yaml) are messages of the same queue, put there by the leader alone, and posted without a body.
"""

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MAX_AT_ONCE = 3  # posts of one message after closed connections
ATTRIBUTES = ("beanstalk.sqsd.path", "beanstalk.sqsd.task_name", "beanstalk.sqsd.scheduled_time")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The options of aws:elasticbeanstalk:sqsd, and where things are."""

    queue_url: str
    base_url: str = "http://localhost"
    http_path: str = "/worker/jobs"
    mime_type: str = "application/json"
    http_connections: int = 2
    inactivity_timeout_s: float = 1800.0
    visibility_timeout_s: int = 1830
    error_visibility_timeout_s: int = 2
    tasks: Mapping[str, str] = field(default_factory=dict)  # of cron.yaml: name -> path; for the leader
    tasks_every_s: float = 300.0


class Sqsd:
    """`with Sqsd(...)` takes messages until the block ends; `answers` are (body, status), 0 for none."""

    def __init__(
        self, config: Config, new_client: Callable[[], Any], base_url: Callable[[], str] | None = None
    ) -> None:
        """`new_client` makes a client of SQS per thread; `base_url` replaces the configured one, and may change."""
        self._config = config
        self._base_url = base_url or (lambda: config.base_url)
        self._stopping = threading.Event()
        self.answers: list[tuple[str, int]] = []
        targets = [self._take] * config.http_connections + ([self._tick] if config.tasks else [])
        self._threads = [threading.Thread(target=target, args=(new_client(),), daemon=True) for target in targets]

    def __enter__(self) -> "Sqsd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _tick(self, sqs: Any) -> None:
        while not self._stopping.wait(self._config.tasks_every_s):
            for name, path in self._config.tasks.items():
                values = (path, name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
                told = {
                    key: {"DataType": "String", "StringValue": value}
                    for key, value in zip(ATTRIBUTES, values, strict=True)
                }
                body = "elasticbeanstalk scheduled job"
                sqs.send_message(QueueUrl=self._config.queue_url, MessageBody=body, MessageAttributes=told)

    def _take(self, sqs: Any) -> None:
        how = {"AttributeNames": ["All"], "MessageAttributeNames": ["All"], "MaxNumberOfMessages": 1}
        visible_s = self._config.visibility_timeout_s
        while not self._stopping.is_set():
            try:
                found = sqs.receive_message(
                    QueueUrl=self._config.queue_url, WaitTimeSeconds=0, VisibilityTimeout=visible_s, **how
                )
                for message in found.get("Messages", []):
                    self._handle(sqs, message)
            except Exception as error:  # botocore isn't at hand where this module is only read
                print(f"sqsd: {error}", file=sys.stderr, flush=True)
                found = {}
            if not found.get("Messages"):
                self._stopping.wait(0.1)

    def _handle(self, sqs: Any, message: Any) -> None:
        status = 0
        for _ in range(MAX_AT_ONCE):
            try:
                status = self._post(message)
                break
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
                continue
            except (OSError, http.client.HTTPException):
                break
        self.answers.append((message["Body"], status))
        which = {"QueueUrl": self._config.queue_url, "ReceiptHandle": message["ReceiptHandle"]}
        if status == 200:
            sqs.delete_message(**which)
        else:
            sqs.change_message_visibility(**which, VisibilityTimeout=self._config.error_visibility_timeout_s)

    def _post(self, message: Any) -> int:
        config, given = self._config, message.get("Attributes", {})
        told = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
        headers = {
            "User-Agent": "aws-sqsd/3.0",
            "Content-Type": config.mime_type,
            "X-Aws-Sqsd-Msgid": message["MessageId"],
            "X-Aws-Sqsd-Queue": config.queue_url.rpartition("/")[2],
            "X-Aws-Sqsd-First-Received-At": str(given.get("ApproximateFirstReceiveTimestamp", "")),
            "X-Aws-Sqsd-Receive-Count": str(given.get("ApproximateReceiveCount", "1")),
            "X-Aws-Sqsd-Sender-Id": str(given.get("SenderId", "")),
        }
        path, body = config.http_path, message["Body"].encode()
        if ATTRIBUTES[0] in told:
            path, name, at = (told[attribute] for attribute in ATTRIBUTES)
            headers |= {"X-Aws-Sqsd-Taskname": name, "X-Aws-Sqsd-Scheduled-At": at, "Content-Length": "0"}
            body = b""
        else:
            headers |= {f"X-Aws-Sqsd-Attr-{name}": value for name, value in told.items()}
        parts = urlsplit(self._base_url())
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=config.inactivity_timeout_s)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


def main() -> None:
    import boto3  # the application's own, on a machine

    config = Config(**json.loads(Path(sys.argv[1]).read_text()))
    with Sqsd(config, lambda: boto3.client("sqs")):
        threading.Event().wait()


if __name__ == "__main__":
    main()
