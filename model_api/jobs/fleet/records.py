"""Jobs in one DynamoDB table, with an index for each question that is asked of them: scripts/beanstalk/jobs.yaml
defines both."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from model_api.jobs.fleet.clients import client, reason, told_as_down
from model_api.jobs.job import MAX_BACKOFF_S, Job, Status
from model_api.jobs.records import Listing

WHAT = "the table of the jobs"
BY_STATUS, BY_OWNER, BY_EXPIRY, BY_NOTICE = "by_status", "by_owner", "by_expiry", "by_notice"
_REFUSED = "ConditionalCheckFailedException"
_CLOCK_ERROR_S = 2.0  # the Date header has whole seconds, and the way takes some time


class DynamoRecords:
    """`Records` in a table. The indexes may be a little behind; each record is then read as it is."""

    def __init__(self, table: str, clock: Callable[[], float] | None = None, **options: Any) -> None:
        """Connects to nothing yet. `clock` replaces the store's own; `options` are boto3's."""
        self._table = table
        self._client = client("dynamodb", **options)
        self._clock = clock
        self._offset_s = 0.0  # of the store's clock from this machine's
        self._client.meta.events.register("after-call.dynamodb", self._note_date)

    def now(self) -> float:
        """By the clock of DynamoDB, which comes with each answer."""
        return self._clock() if self._clock else time.time() + self._offset_s

    def add(self, job: Job) -> bool:
        return self._conditional("attribute_not_exists(id)", {}, put=job)

    def get(self, job_id: str) -> Job | None:
        with told_as_down(WHAT):
            found = self._client.get_item(TableName=self._table, Key={"id": {"S": job_id}}, ConsistentRead=True)
        item = found.get("Item")
        return None if item is None else Job.from_json(item["record"]["S"])

    def swap(self, old: Job, new: Job) -> bool:
        return self._conditional("revision = :old", {":old": {"N": str(old.revision)}}, put=new)

    def remove(self, job: Job) -> bool:
        return self._conditional("revision = :old", {":old": {"N": str(job.revision)}}, remove=job.id)

    def ready(self, now: float, limit: int) -> Sequence[Job]:
        rows = self._query(
            BY_STATUS,
            "#status = :status",
            {":status": "queued", ":now": now, ":latest": now + MAX_BACKOFF_S},
            "(ready_at <= :now OR ready_at > :latest) AND expires > :now",
        )
        return self._read(rows, limit)

    def running(self, limit: int) -> Sequence[Job]:
        return self._read(self._query(BY_STATUS, "#status = :status", {":status": "running"}), limit)

    def queued(self, limit: int) -> Sequence[Job]:
        return self._read(self._query(BY_STATUS, "#status = :status", {":status": "queued"}), limit)

    def count_waiting(self) -> int:
        return sum(1 for _ in self._query(BY_STATUS, "#status = :status", {":status": "queued"}))

    def expiring(self, now: float, limit: int) -> Sequence[Job]:
        rows = self._query(BY_EXPIRY, "alive = :alive AND expires <= :now", {":alive": "yes", ":now": now})
        return self._read(rows, limit)

    def expired(self, before: float, limit: int) -> Sequence[Job]:
        rows = self._query(BY_EXPIRY, "alive = :alive AND expires < :before", {":alive": "no", ":before": before})
        return self._read(rows, limit)

    def to_notify(self, now: float, limit: int) -> Sequence[Job]:
        rows = self._query(BY_NOTICE, "notice = :due AND notify_at <= :now", {":due": "due", ":now": now})
        return self._read(rows, limit)

    def page(self, listing: Listing, now: float) -> Sequence[Job]:
        condition, values = "listed_for = :owner", {":owner": _listed_for(listing.owner)}
        wanted: list[str] = []
        if listing.after is not None:
            condition += " AND listed_at < :after"
            values[":after"] = _listed_at(*listing.after)
        if listing.status == Status.EXPIRED:
            wanted.append("expires <= :now")
        elif listing.status is not None:
            wanted.append("#status = :status AND (attribute_not_exists(expires) OR expires > :now)")
            values[":status"] = str(listing.status)
        if listing.kind is not None:
            wanted.append("kind = :kind")
            values[":kind"] = listing.kind
        names: dict[str, Any] = {**values, ":now": now} if listing.status is not None else dict(values)
        return self._read(self._query(BY_OWNER, condition, names, " AND ".join(wanted), forward=False), listing.limit)

    def close(self) -> None:
        self._client.close()

    def _conditional(
        self, condition: str, values: Mapping[str, Any], *, put: Job | None = None, remove: str | None = None
    ) -> bool:
        how: dict[str, Any] = {"TableName": self._table, "ConditionExpression": condition}
        if values:
            how["ExpressionAttributeValues"] = values
        with told_as_down(WHAT):
            try:
                if put is not None:
                    self._client.put_item(Item=_item(put), **how)
                else:
                    self._client.delete_item(Key={"id": {"S": remove}}, **how)
            except ClientError as error:
                if reason(error) == _REFUSED:
                    return False
                raise
        return True

    def _query(
        self, index: str, condition: str, values: Mapping[str, Any], wanted: str = "", *, forward: bool = True
    ) -> Iterator[str]:
        """Ids, page by page, as long as somebody takes them."""
        how: dict[str, Any] = {
            "TableName": self._table,
            "IndexName": index,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": {name: _value(value) for name, value in values.items()},
            "ScanIndexForward": forward,
        }
        if wanted:
            how["FilterExpression"] = wanted
        if "#status" in condition + wanted:
            how["ExpressionAttributeNames"] = {"#status": "status"}
        while True:
            with told_as_down(WHAT):
                page = self._client.query(**how)
            yield from (item["id"]["S"] for item in page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            how["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _read(self, ids: Iterator[str], limit: int) -> list[Job]:
        found: list[Job] = []
        for job_id in ids:
            if len(found) == limit:
                break
            job = self.get(job_id)
            if job is not None:
                found.append(job)
        return found

    def _note_date(self, http_response: Any = None, **event: Any) -> None:
        try:
            offset_s = parsedate_to_datetime(http_response.headers["Date"]).timestamp() - time.time()
        except (KeyError, TypeError, ValueError, AttributeError):
            return
        self._offset_s = offset_s if abs(offset_s) > _CLOCK_ERROR_S else 0.0


def _item(job: Job) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": job.id,
        "revision": job.revision,
        "status": str(job.status),
        "kind": job.kind,
        "created": job.created,
        "listed_for": _listed_for(job.owner),
        "listed_at": _listed_at(job.created, job.id),
        "ready_at": job.ready_at,
        "record": job.to_json().decode(),
    }
    if job.expires is not None:
        values |= {"alive": "no" if job.status == Status.EXPIRED else "yes", "expires": job.expires}
    if job.notify_at is not None:
        values |= {"notice": "due", "notify_at": job.notify_at}
    return {name: _value(value) for name, value in values.items()}


def _value(value: str | float) -> dict[str, str]:
    return {"S": value} if isinstance(value, str) else {"N": repr(value)}


def _listed_for(owner: str) -> str:
    return f"owner:{owner}"


def _listed_at(created: float, job_id: str) -> str:
    """Sorts as the two do."""
    return f"{created:020.6f} {job_id}"
