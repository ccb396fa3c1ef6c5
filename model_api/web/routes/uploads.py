"""Uploads: where to send bytes, and the way in for those that come to this server."""

from collections.abc import Iterator
from typing import Any

from flask import request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import ValidationError
from werkzeug.exceptions import RequestTimeout

from model_api.errors import InvalidInput, MalformedRequest, ModelApiError, NotSigned, UploadConflict, UploadExpired
from model_api.jobs.documents import moment
from model_api.jobs.uploads import CHUNK_BYTES, Upload
from model_api.jobs.videos import takes_uploads
from model_api.jobs.work import FILE
from model_api.web.job_schemas import JobBody, UploadAddress, UploadBody, UploadPath, UploadState
from model_api.web.openapi import answer, problems
from model_api.web.problems import InvalidBody, described, pointer
from model_api.web.requests import current_jobs, current_owner, current_request, own_origin
from model_api.web.responses import ApiResponse, json_response
from model_api.web.routes.jobs import route_body

blueprint = APIBlueprint("uploads", __name__, abp_tags=[Tag(name="jobs")])
_ANY_ID = "0" * 64


@blueprint.post(
    "/uploads",
    summary="Ask where to send bytes",
    responses={
        **answer(UploadAddress, "An address for them, good for an hour.", status=201),
        **problems(400, 413, 415, 422, 503),
    },
)
def ask(body: UploadBody) -> ApiResponse:
    if body.job is not None:
        _check_job(body.job)
        admit_job(body.job["kind"], body.job.get("model"))
    parts = current_jobs().parts
    upload = parts.uploads.ask(current_owner(), body.content_type, body.size, body.sha256, body.job)
    address = parts.upload_address(upload, body.method == "POST")
    document = {
        "id": upload.id,
        "method": address.method,
        "url": own_origin() + address.url if address.url.startswith("/") else address.url,
        **({"headers": address.headers} if address.fields is None else {"fields": address.fields}),
        "expires": moment(upload.expires),
    }
    response = json_response(document, 201)
    response.headers["Location"] = f"/uploads/{upload.id}"
    return response


@blueprint.put(
    "/uploads/<id>",
    summary="Send the bytes, to the address that was given for them",
    responses={**answer(UploadState, "They were accepted."), **problems(400, 403, 404, 409, 410, 422, 503)},
)
def receive(path: UploadPath) -> ApiResponse:
    parts = current_jobs().parts
    local = parts.local
    if local is None or not local.signer.holds("PUT", request.path, parts.queue.records.now(), request.args.to_dict()):
        raise NotSigned("this address is not, or no longer, good: ask for another upload")
    with current_jobs().taking_in() as uploads:
        upload = uploads.receive(path.id, request.content_length, _chunks())
    document = _document(upload, "accepted")
    if upload.job is not None:
        try:
            document["job"] = current_jobs().start_job_of(upload)
        except ModelApiError as error:  # the bytes are safe: POST /jobs can start it yet
            document["job_error"] = described(error)
    return json_response(document)


@blueprint.get(
    "/uploads/<id>",
    summary="An upload",
    responses={**answer(UploadState, "The upload as it is."), **problems(404, 503)},
)
def show(path: UploadPath) -> ApiResponse:
    uploads = current_jobs().parts.uploads
    try:
        upload, status = uploads.get(path.id, current_owner()), "accepted"
    except UploadConflict:
        upload, status = uploads.asked(path.id), "waiting"
    except UploadExpired:
        upload, status = uploads.asked(path.id), "expired"
    return json_response(_document(upload, status))


def _document(upload: Upload, status: str) -> dict[str, Any]:
    return {
        "id": upload.id,
        "status": status,
        "content_type": upload.content_type,
        "size": upload.received_bytes or upload.size,
        "sha256": upload.received_sha256 or upload.sha256,
        "expires": moment(upload.expires) if status == "waiting" else None,
    }


def admit_job(kind: str, model: str | None) -> None:
    """Whether the caller may ask the model of a job that will start by itself. Raises Forbidden, and what there is to
    say where it names no model."""
    if current_request().caller.models is not None:
        current_request().context().admit(model or current_jobs().model_for(kind))


def _check_job(given: dict[str, Any]) -> None:
    """Raises InvalidBody or InvalidInput below /job, for what POST /jobs would refuse before it looks at the bytes."""
    try:
        body = JobBody.model_validate({**given, "upload": _ANY_ID})
        if body.kind != FILE and not takes_uploads(body.kind):
            raise InvalidInput("must be file or video-regression: no other kind takes an upload", "/kind")
        route_body(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidBody([("/job" + pointer(f["loc"]), f["msg"]) for f in found]) from None
    except InvalidBody as error:
        raise InvalidBody([("/job" + place, detail) for place, detail in error.places]) from None
    except InvalidInput as error:
        raise InvalidInput(str(error), "/job" + error.pointer) from None


def _chunks() -> Iterator[bytes]:
    """The body as it comes in, a part at a time."""
    environ = current_request().environ
    left = current_request().content_length
    try:
        while left is None or left > 0:
            chunk = environ["wsgi.input"].read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if not chunk:
                return
            if left is not None:
                left -= len(chunk)
            yield chunk
    except TimeoutError as error:
        raise RequestTimeout("the bytes didn't arrive in time") from error
    except Exception as error:  # the server's own types for a broken transfer
        raise MalformedRequest("the bytes could not be read to their end") from error
