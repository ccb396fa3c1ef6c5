"""OpenAI's files and batches: uploads and file jobs under its names.

A batch's result is one object with a line per request; its output file and its error file are the two halves of that,
told apart as they are read.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

from flask import current_app, request
from flask_openapi3 import APIBlueprint

from model_api.errors import InvalidInput, JobOver, UnknownJob, UnknownUpload
from model_api.jobs.files.batches import BATCH, lines_of
from model_api.jobs.job import Job, Status
from model_api.jobs.objects import ObjectGone
from model_api.jobs.records import Listing
from model_api.jobs.uploads import CHUNK_BYTES, JSON_LINES, KEEP_S, VALID_S, Upload
from model_api.serving.openai_embeddings import ENDPOINT
from model_api.settings import Settings
from model_api.web.protocols.openai_shape import error_of
from model_api.web.requests import current_jobs, current_owner, current_request
from model_api.web.responses import ApiResponse, json_response

blueprint = APIBlueprint("openai_files", __name__)
PURPOSE = "batch"
FORM_BYTES = 1 << 16  # of what stands around the file
OUTPUT, ERRORS = "output", "errors"
MAX_METADATA = 16
_FILE = re.compile(r"file-([0-9a-f]{64})(?:-(output|errors))?")
_BATCH = re.compile(r"batch_([0-9a-f]{64})")
_STATUSES = {
    Status.QUEUED: "validating",
    Status.RUNNING: "in_progress",
    Status.SUCCEEDED: "completed",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
    Status.EXPIRED: "expired",
}


@blueprint.route("/v1/files", methods=["POST"])
def send_file() -> ApiResponse:
    settings: Settings = current_app.extensions["model_api_settings"]
    request.max_content_length = settings.max_upload_bytes + FORM_BYTES
    with current_jobs().taking_in() as uploads:
        file = request.files.get("file")
        if file is None:
            raise InvalidInput("must be sent, as multipart/form-data", "/file")
        if request.form.get("purpose") != PURPOSE:
            raise InvalidInput(f"must be {PURPOSE}: no other file is of use here", "/purpose")
        asked = uploads.ask(
            current_owner(), JSON_LINES, None, None, None, file_name=(file.filename or "")[:255], purpose=PURPOSE
        )
        upload = uploads.receive(asked.id, None, iter(lambda: file.stream.read(CHUNK_BYTES), b""))
    return json_response(_upload_document(upload))


@blueprint.route("/v1/files")
def list_files() -> ApiResponse:
    if request.args.get("purpose", PURPOSE) != PURPOSE:
        return _page([])
    return _page([_upload_document(one) for one in current_jobs().parts.uploads.accepted(current_owner(), PURPOSE)])


@blueprint.route("/v1/files/<file_id>")
def show_file(file_id: str) -> ApiResponse:
    upload, job, half = _file(file_id)
    if upload is not None:
        return json_response(_upload_document(upload))
    assert job is not None
    return json_response(
        {
            "id": file_id,
            "object": "file",
            "bytes": sum(map(len, _lines(job, half))),
            "created_at": int(job.finished or 0),
            "expires_at": int(job.expires or 0),
            "filename": f"batch_{job.id[:16]}_{half}.jsonl",
            "purpose": "batch_output",
            "status": "processed",
        }
    )


@blueprint.route("/v1/files/<file_id>/content")
def file_content(file_id: str) -> ApiResponse:
    upload, job, half = _file(file_id)
    if upload is not None:
        return ApiResponse(_read(upload.key, _chunks), content_type=JSON_LINES)
    assert job is not None
    return ApiResponse(_lines(job, half), content_type=JSON_LINES)


@blueprint.route("/v1/files/<file_id>", methods=["DELETE"])
def delete_file(file_id: str) -> ApiResponse:
    upload, _, _ = _file(file_id)
    if upload is None:
        raise InvalidInput("belongs to its batch, and goes with it", "/file_id")
    current_jobs().parts.uploads.remove(upload.id, current_owner())
    return json_response({"id": file_id, "object": "file", "deleted": True})


@blueprint.route("/v1/batches", methods=["POST"])
def create_batch() -> ApiResponse:
    body = current_request().get_json()
    if body.get("endpoint") != ENDPOINT:
        raise InvalidInput(f"must be {ENDPOINT}", "/endpoint")
    if body.get("completion_window") != "24h":
        raise InvalidInput("must be 24h", "/completion_window")
    metadata = body.get("metadata")
    if metadata is not None and not _is_metadata(metadata):
        raise InvalidInput(f"must be an object of at most {MAX_METADATA} texts", "/metadata")
    found = _FILE.fullmatch(str(body.get("input_file_id", "")))
    if found is None or found[2]:
        raise InvalidInput("no such file", "/input_file_id")
    asked = {"upload": found[1], "endpoint": ENDPOINT, "metadata": metadata}
    context = current_request().context()
    # Each is a batch of its own, as its callers expect, whatever was asked before.
    key = current_request().headers.get("Idempotency-Key") or secrets.token_hex(16)
    job, _ = current_jobs().submit(BATCH, asked, context, owner=current_owner(), idempotency_key=f"batch {key}"[:255])
    return json_response(_batch_document(job))


@blueprint.route("/v1/batches")
def list_batches() -> ApiResponse:
    limit = request.args.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= 100:
        raise InvalidInput("must be between 1 and 100", "/limit")
    after = request.args.get("after")
    cursor = None
    if after is not None:
        last = _job(after)
        cursor = (last.created, last.id)
    listing = Listing(current_owner(), None, BATCH, cursor, int(limit) + 1)
    found = current_jobs().queue.page(listing)
    more = len(found) > int(limit)
    return _page([_batch_document(job) for job in found[: int(limit)]], has_more=more)


@blueprint.route("/v1/batches/<batch_id>")
def show_batch(batch_id: str) -> ApiResponse:
    return json_response(_batch_document(_job(batch_id)))


@blueprint.route("/v1/batches/<batch_id>/cancel", methods=["POST"])
def cancel_batch(batch_id: str) -> ApiResponse:
    try:
        job = current_jobs().cancel(_job(batch_id).id, current_owner())
    except JobOver as error:
        raise InvalidInput(str(error), "/batch_id") from error
    return json_response(_batch_document(job))


def _is_metadata(value: Any) -> bool:
    if not isinstance(value, Mapping) or len(value) > MAX_METADATA:
        return False
    return all(len(name) <= 64 and isinstance(text, str) and len(text) <= 512 for name, text in value.items())


def _file(file_id: str) -> tuple[Upload | None, Job | None, str]:
    """What was sent, or the job and the half of its result. Raises UnknownUpload."""
    found = _FILE.fullmatch(file_id)
    if found is not None and found[2] is None:
        return current_jobs().parts.uploads.get(found[1], current_owner()), None, ""
    if found is not None:
        job = _job(f"batch_{found[1]}")
        if job.result is not None:
            return None, job, found[2]
    raise UnknownUpload(f"no file {file_id[:80]!r} is kept here")


def _job(batch_id: str) -> Job:
    """Raises UnknownJob."""
    found = _BATCH.fullmatch(batch_id)
    job = None if found is None else current_jobs().queue.get(found[1], current_owner())
    if job is None or job.kind != BATCH:
        raise UnknownJob(f"no batch {batch_id[:80]!r} was asked for here")
    return job


def _lines(job: Job, half: str) -> Iterator[bytes]:
    assert job.result is not None
    return _read(job.result.key or "", partial(lines_of, succeeded=half == OUTPUT))


def _read(key: str, parts: Callable[[BinaryIO], Iterator[bytes]]) -> Iterator[bytes]:
    """The parts of an object, which is opened now: they are read when there is no request any more. Raises
    UnknownUpload."""
    with contextlib.ExitStack() as opening:
        try:
            stream = opening.enter_context(current_jobs().parts.objects.reader(key))
        except ObjectGone:
            raise UnknownUpload("this file is kept no longer") from None
        opened = opening.pop_all()

    def read() -> Iterator[bytes]:
        with opened:
            yield from parts(stream)

    return read()


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _upload_document(upload: Upload) -> dict[str, Any]:
    created = int(upload.expires - VALID_S)
    return {
        "id": f"file-{upload.id}",
        "object": "file",
        "bytes": upload.received_bytes,
        "created_at": created,
        "expires_at": created + int(KEEP_S),
        "filename": upload.file_name,
        "purpose": upload.purpose,
        "status": "processed",
    }


def _batch_document(job: Job) -> dict[str, Any]:
    progress, ended = job.progress, None if job.finished is None else int(job.finished)
    status = _STATUSES[job.status]
    succeeded = job.status == Status.SUCCEEDED
    document: dict[str, Any] = {
        "id": f"batch_{job.id}",
        "object": "batch",
        "endpoint": ENDPOINT,
        "model": job.model,
        "errors": None,
        "input_file_id": f"file-{job.upload}",
        "completion_window": "24h",
        "status": status,
        "output_file_id": f"file-{job.id}-{OUTPUT}" if succeeded and progress.done > progress.errors else None,
        "error_file_id": f"file-{job.id}-{ERRORS}" if succeeded and progress.errors else None,
        "created_at": int(job.created),
        "in_progress_at": None if job.started is None else int(job.started),
        "expires_at": None if job.expires is None else int(job.expires),
        "request_counts": {
            "total": progress.total,
            "completed": progress.done - progress.errors,
            "failed": progress.errors,
        },
        "metadata": _metadata(job),
    }
    for name in ("completed", "failed", "cancelled", "expired"):
        document[f"{name}_at"] = ended if status == name else None
    document |= {"finalizing_at": document["completed_at"], "cancelling_at": document["cancelled_at"]}
    if job.status == Status.FAILED:
        told = error_of(dict(job.error or {}))
        document["errors"] = {"object": "list", "data": [{**told, "line": None}]}
    return document


def _metadata(job: Job) -> Any:
    if job.work is None:
        return None
    try:
        return json.loads(current_jobs().queue.content(job.work)).get("metadata")
    except ObjectGone:
        return None


def _page(items: list[dict[str, Any]], *, has_more: bool = False) -> ApiResponse:
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {"first_id": None, "last_id": None}
    return json_response({"object": "list", "data": items, **ends, "has_more": has_more})
