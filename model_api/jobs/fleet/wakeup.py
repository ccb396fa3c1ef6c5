"""Waking the workers of a fleet by messages in SQS. A message only wakes; the record decides."""

import logging
import math
from typing import Any

import orjson

from model_api.errors import JobsDown
from model_api.jobs.fleet.clients import client, told_as_down

log = logging.getLogger(__name__)

MAX_DELAY_S = 900  # SQS' own


class SqsWakeup:
    """`Wakeup` by a queue, whose messages Beanstalk's worker tier posts to /worker/jobs."""

    def __init__(self, queue_url: str, **options: Any) -> None:
        self._queue_url = queue_url
        self._client = client("sqs", **options)

    def wake(self, job_id: str, delay_s: float) -> None:
        """All is in the body: attributes may be lost on the way. One that can't be sent is sent by the next sweep."""
        body = orjson.dumps({"job": job_id}).decode()
        delay = min(MAX_DELAY_S, math.ceil(delay_s))
        try:
            with told_as_down("the queue of the jobs"):
                self._client.send_message(QueueUrl=self._queue_url, MessageBody=body, DelaySeconds=delay)
        except JobsDown as error:
            log.warning("no worker was woken", extra={"fields": {"job": job_id, "error": str(error)}})
