"""A job as callers see it."""

from datetime import UTC, datetime
from typing import Any

import orjson

from model_api.jobs.job import Job, Status
from model_api.jobs.pipelines import DAILY
from model_api.jobs.queue import MAX_INLINE_BYTES


def moment(unix_s: float | None) -> str | None:
    """RFC 3339 in UTC, with milliseconds."""
    if unix_s is None:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_document(job: Job, *, with_result: bool = True) -> dict[str, Any]:
    """`result` where it is small, else `result_url`, which leads to an address signed when it is asked."""
    progress: dict[str, Any] = {"done": job.progress.done, "total": job.progress.total, "unit": job.progress.unit}
    if job.progress.errors:
        progress["errors"] = job.progress.errors
    document: dict[str, Any] = {
        "id": job.id,
        "kind": job.kind,
        "status": str(job.status),
        "progress": progress,
        "attempts": job.attempts,
        "model": job.model,
        "version": job.version,
        "digest": job.digest,
        "created": moment(job.created),
        "started": moment(job.started),
        "finished": moment(job.finished),
        "expires": moment(job.expires),
    }
    if job.result is not None:
        if with_result and job.result.inline is not None and job.result.n_bytes <= MAX_INLINE_BYTES:
            document["result"] = orjson.Fragment(job.result.inline)
        else:
            document["result_url"] = f"/jobs/{job.id}/result"
    if job.error is not None and job.status != Status.SUCCEEDED:
        document["error"] = dict(job.error)  # of a queued job: why the attempt before failed
    return document


def notice(job: Job) -> bytes:
    """What the address in `notify` is told. Without the result: whoever is told may not be who may read it. Whom a
    pipeline tells is its owner's choice, who gets the summary."""
    document = {
        "type": f"job.{job.status}",
        "timestamp": moment(job.finished),
        "data": job_document(job, with_result=job.kind == DAILY),
    }
    return orjson.dumps(document)
