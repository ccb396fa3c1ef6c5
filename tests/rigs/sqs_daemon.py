"""Beanstalk's sqsd, as far as an application can tell: posts a queue's messages, and deletes one for 200 alone."""

import threading
from collections.abc import Callable
from typing import Any

import requests

from tests.rigs.fleet import Cloud


class SqsDaemon:
    """Posts to whatever `url` gives at the moment, on `connections` threads. What isn't answered 200 comes again."""

    def __init__(self, aws: Cloud, queue_url: str, url: Callable[[], str], connections: int = 2) -> None:
        self._queue_url, self._url = queue_url, url
        self._stopping = threading.Event()
        self.answers: list[tuple[str, int]] = []
        self._threads = [threading.Thread(target=self._run, args=(aws.client("sqs"),)) for _ in range(connections)]

    def __enter__(self) -> "SqsDaemon":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, sqs: Any) -> None:
        while not self._stopping.is_set():
            found = sqs.receive_message(QueueUrl=self._queue_url, WaitTimeSeconds=0, VisibilityTimeout=2)
            for message in found.get("Messages", []):
                self._post(sqs, message)
            if not found.get("Messages"):
                self._stopping.wait(0.1)

    def _post(self, sqs: Any, message: Any) -> None:
        headers = {"Content-Type": "application/json", "X-Aws-Sqsd-Msgid": message["MessageId"]}
        try:
            status = requests.post(self._url(), data=message["Body"], headers=headers, timeout=60).status_code
        except requests.RequestException:
            status = 0
        self.answers.append((message["Body"], status))
        if status == 200:
            sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=message["ReceiptHandle"])
