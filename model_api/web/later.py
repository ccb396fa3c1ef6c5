"""Answering later: a request that asks for it, or that times out, becomes a job."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import current_app

from model_api.errors import DeadlineExceeded, InvalidInput
from model_api.jobs.documents import job_document
from model_api.jobs.job import Job, Status
from model_api.settings import Settings
from model_api.web.requests import current_jobs, current_owner, current_request
from model_api.web.responses import ApiResponse, json_response

_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_WAIT = re.compile(r'wait="?(\d{1,9})"?')


@dataclass(frozen=True)
class Preference:
    """What RFC 7240's Prefer header asks for, of what is known here."""

    respond_async: bool = False
    wait_s: int | None = None

    @property
    def is_for_later(self) -> bool:
        return self.respond_async or self.wait_s is not None


def preference(header: str) -> Preference:
    """Anything else in the header is ignored, as the RFC has it."""
    respond_async, wait_s = False, None
    for item in header.split(","):
        token = item.partition(";")[0].replace(" ", "").replace("\t", "").lower()
        if token == "respond-async":  # noqa: S105 - a preference, not a password
            respond_async = True
        elif (found := _WAIT.fullmatch(token)) and wait_s is None:
            wait_s = int(found[1])
    return Preference(respond_async, wait_s)


def now_or_later(kind: str, body: Mapping[str, Any], answer: Callable[[], ApiResponse]) -> ApiResponse:
    """What `answer` gives, unless the caller prefers a job; where `answer` takes too long, its problem leads to one."""
    jobs, request = current_jobs(), current_request()
    header = request.environ.get("HTTP_PREFER")
    if header is not None and (wanted := preference(header)).is_for_later:
        return _later(kind, body, wanted)
    if jobs.handed_over:
        context = request.context()
        job = jobs.take_up(kind, body, context, current_owner())
        if job is not None:
            job = jobs.wait(job, limit_s(), context.has_left)
            if job.is_over:
                return result_response(job)
            raise _deadline(job)
    try:
        return answer()
    except DeadlineExceeded as error:
        handed = jobs.hand_over(kind, body, request.context(), current_owner())
        if handed is None:
            raise
        raise _deadline(handed) from error


def _later(kind: str, body: Mapping[str, Any], wanted: Preference) -> ApiResponse:
    jobs, request = current_jobs(), current_request()
    context = request.context()
    job, _ = jobs.submit(kind, body, context, owner=current_owner(), idempotency_key=idempotency_key())
    job = jobs.wait(job, min(wanted.wait_s or 0, limit_s()), context.has_left)
    response = result_response(job) if job.is_over else accepted(job)
    applied = "respond-async" if wanted.wait_s is None else f"wait={wanted.wait_s}"
    response.headers["Preference-Applied"] = applied
    return response


def idempotency_key() -> str | None:
    """Raises InvalidInput."""
    key = current_request().headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidInput("Idempotency-Key must be 1 to 255 visible ASCII characters", "")
    return key


def limit_s() -> float:
    settings: Settings = current_app.extensions["model_api_settings"]
    return settings.request_timeout_s - current_request().elapsed_ms / 1000


def accepted(job: Job, status: int = 202) -> ApiResponse:
    """The job as it is, with its address."""
    response = json_response(job_document(job), status)
    response.headers["Location"] = f"/jobs/{job.id}"
    if not job.is_over:
        response.headers["Retry-After"] = "1"
    return response


def result_response(job: Job) -> ApiResponse:
    """What the route would have answered. Raises JobFailed, JobCancelled or JobExpired where there is nothing."""
    payload = current_jobs().queue.result(job)
    return with_weights(ApiResponse(current_jobs().queue.content(payload), content_type=payload.media_type), job)


def with_weights(response: ApiResponse, job: Job) -> ApiResponse:
    """The headers that name the weights, and the job."""
    if job.model is not None and job.status == Status.SUCCEEDED:
        names = (("X-Model", job.model), ("X-Model-Version", job.version), ("X-Model-Digest", job.digest))
        response.late_headers += [(name, value) for name, value in names if value is not None]
    response.headers["Content-Location"] = f"/jobs/{job.id}/result"
    return response


def _deadline(job: Job) -> DeadlineExceeded:
    error = DeadlineExceeded(f"no answer within the request's time limit; job {job.id[:16]} goes on with it")
    error.job_id = job.id
    return error
