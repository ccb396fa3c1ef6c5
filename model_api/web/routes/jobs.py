"""Jobs: asking for work without waiting for it, and what became of it."""

import base64
import hashlib
import re
from typing import Any, cast

import flask
from flask import request
from flask_openapi3 import APIBlueprint, Tag
from pydantic import ValidationError

from model_api.errors import Forbidden, InvalidInput, NotSigned, UnknownJob
from model_api.jobs.documents import job_document
from model_api.jobs.job import Status
from model_api.jobs.objects import ObjectGone
from model_api.jobs.pipelines import DAILY
from model_api.jobs.records import Listing
from model_api.jobs.videos import takes_uploads
from model_api.jobs.work import FILE, SCORE, SIM, is_kind
from model_api.serving.documents import dump
from model_api.web.job_schemas import FileBody, JobBody, JobList, JobPath, JobQuery, JobsQuery, JobState, VideoBody
from model_api.web.later import accepted, idempotency_key, limit_s, result_response, with_weights
from model_api.web.openapi import answer, problems
from model_api.web.problems import InvalidBody, pointer
from model_api.web.requests import checked_address, current_jobs, current_owner, current_request
from model_api.web.responses import ApiResponse, json_response
from model_api.web.routes.predictions import pointer_of_one
from model_api.web.routes.scores import check_shape
from model_api.web.schemas import PredictBody, ScoreBody, SimBody

blueprint = APIBlueprint("jobs", __name__, abp_tags=[Tag(name="jobs")])
_ID = re.compile(r"[0-9a-f]{64}")
_BODIES: dict[str, type[PredictBody | SimBody | ScoreBody | FileBody]] = {
    SIM: SimBody,
    SCORE: ScoreBody,
    FILE: FileBody,
}
_OWN_FIELDS = frozenset({"kind", "ttl_s", "notify"})


@blueprint.post(
    "/jobs",
    summary="Ask for work without waiting for it",
    description="The same work by the same weights is one job, whoever asks again. `Idempotency-Key` makes one of"
    " requests that would each be work of their own, as unseeded sampling is.",
    responses={
        **answer(JobState, "The job, at `Location`.", status=202),
        **answer(JobState, "The job that does this work already, or has done it."),
        **problems(400, 404, 413, 415, 422, 500, 503),
    },
)
def submit(body: JobBody) -> ApiResponse:
    if body.kind == DAILY:
        return _submit_daily(body)
    if not is_kind(body.kind):
        raise InvalidInput("must be predict, sim, score, file, daily or a model's task", "/kind")
    given, place = route_body(body)
    try:
        job, is_new = current_jobs().submit(
            body.kind,
            given,
            current_request().context(),
            owner=current_owner(),
            ttl_s=body.ttl_s,
            notify=body.notify,
            idempotency_key=idempotency_key(),
        )
    except InvalidInput as error:
        nested = place and error.pointer.split("/")[1:2] != ["notify"]
        place_of_error = place + error.pointer if nested else pointer_of_one(body.inputs, error.pointer)
        raise InvalidInput(str(error), place_of_error) from error
    return accepted(job, 202 if is_new else 200)


def _submit_daily(body: JobBody) -> ApiResponse:
    if extra := sorted(body.model_fields_set - {"kind", "pipeline", "date"}):
        raise InvalidInput("what a daily job does, its pipeline says", f"/{extra[0]}")
    if current_request().caller.models is not None:
        raise Forbidden("a pipeline may ask any model, and this key is for some")
    if body.pipeline is None:
        raise InvalidInput("must be the name of a pipeline", "/pipeline")
    job, is_new = current_jobs().submit_daily(body.pipeline, body.date, current_owner())
    return accepted(job, 202 if is_new else 200)


@blueprint.get(
    "/jobs",
    summary="List jobs",
    responses={**answer(JobList, "A page of jobs, newest first."), **problems(422, 503)},
)
def page(query: JobsQuery) -> ApiResponse:
    listing = Listing(
        current_owner(),
        None if query.status is None else Status(query.status),
        query.kind,
        None if query.after is None else _read_cursor(query.after),
        query.limit,
    )
    found = current_jobs().queue.page(listing)
    more = len(found) == query.limit
    return json_response(
        {
            "jobs": [job_document(job, with_result=False) for job in found],
            "next": _cursor(found[-1].created, found[-1].id) if more else None,
        }
    )


@blueprint.get(
    "/jobs/<id>",
    summary="A job",
    description="With `wait` the answer comes when the job is over, or, where If-None-Match is sent, when it changed.",
    responses={
        **answer(JobState, "The job as it is."),
        304: {"description": "It is as If-None-Match has it."},
        **problems(404, 422, 503),
    },
)
def show(path: JobPath, query: JobQuery) -> ApiResponse:
    jobs, context = current_jobs(), current_request().context()
    known = request.if_none_match
    job = jobs.queue.get(_checked_id(path.id), current_owner())
    if query.wait:
        job = jobs.wait(
            job,
            min(query.wait, limit_s()),
            context.has_left,
            until=lambda seen: seen.is_over or (bool(known) and not known.contains(_etag(dump(job_document(seen))))),
        )
    body = dump(job_document(job))
    if known.contains(_etag(body)):
        response = ApiResponse(status=304)
    else:
        response = ApiResponse(body, content_type="application/json")
        if not job.is_over:
            response.headers["Retry-After"] = "1"
    response.set_etag(_etag(body))
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get(
    "/jobs/<id>/result",
    summary="What a job gave",
    responses={
        200: {"description": "What the route would have answered."},
        303: {"description": "It is at `Location`, an address that is good for an hour."},
        **problems(404, 409, 410, 422, 500, 503),
    },
)
def result(path: JobPath) -> ApiResponse:
    jobs = current_jobs()
    job = jobs.queue.get(_checked_id(path.id), current_owner())
    payload = jobs.queue.result(job)
    if payload.key is None:
        return result_response(job)
    response = with_weights(ApiResponse(status=303), job)
    name = payload.file_name or f"{job.id[:16]}.json"
    now = jobs.queue.records.now()
    response.headers["Location"] = jobs.queue.objects.address(payload.key, payload.media_type, name, now)
    return response


@blueprint.delete(
    "/jobs/<id>",
    summary="Cancel a job, running or not",
    responses={**answer(JobState, "The job, cancelled."), **problems(404, 409, 410, 503)},
)
def cancel(path: JobPath) -> ApiResponse:
    return json_response(job_document(current_jobs().cancel(_checked_id(path.id), current_owner())))


@blueprint.post(
    "/jobs/<id>/retry",
    summary="Try a job again that failed or was cancelled",
    responses={**answer(JobState, "The job, waiting again.", status=202), **problems(404, 409, 410, 503)},
)
def retry(path: JobPath) -> ApiResponse:
    return accepted(current_jobs().queue.retry(_checked_id(path.id), current_owner()))


@blueprint.route("/jobs/objects/<kind>/<name>")
def show_object(kind: str, name: str) -> ApiResponse:
    """A large result, to whoever has the address that its job gave."""
    parts = current_jobs().parts
    given = request.args.to_dict()
    local = parts.local
    if local is None or not local.signer.holds("GET", request.path, parts.queue.records.now(), given):
        raise NotSigned("this address is not, or no longer, good: ask the job for a fresh one")
    try:
        file = local.objects.path(f"{kind}/{name}")
        sent = flask.send_file(
            file, given["type"], as_attachment=True, download_name=given["name"], conditional=True, etag=name
        )
    except (ObjectGone, FileNotFoundError):
        flask.abort(410, "this result is kept no longer")
    response = cast(ApiResponse, sent)
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    return response


def route_body(body: JobBody) -> tuple[dict[str, Any], str]:
    """The route's own body, and the pointer of where it stands in the job's."""
    given = {name: getattr(body, name) for name in body.model_fields_set - _OWN_FIELDS}
    place = ""
    if body.kind in (SIM, SCORE) and isinstance(body.inputs, dict):
        del given["inputs"]
        if twice := given.keys() & body.inputs.keys():
            raise InvalidInput(f"{sorted(twice)[0]} is given twice", "/inputs")
        given |= body.inputs
        place = "/inputs"
    try:
        checked = (VideoBody if takes_uploads(body.kind) else _BODIES.get(body.kind, PredictBody)).model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidBody([(place + pointer(f["loc"]), f["msg"]) for f in found]) from None
    if isinstance(checked, ScoreBody):
        check_shape(checked)
    if isinstance(checked, PredictBody) and checked.inputs is None:
        raise InvalidInput("inputs must be one input or a list of them, not null", "/inputs")
    if checked.model is not None:
        checked_address(checked.model)
    return checked.model_dump(), place


def _checked_id(job_id: str) -> str:
    if not _ID.fullmatch(job_id):
        raise UnknownJob(f"no job {job_id[:16]!r} was asked for here")
    return job_id


def _etag(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def _cursor(created: float, job_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created!r} {job_id}".encode()).decode()


def _read_cursor(text: str) -> tuple[float, str]:
    try:
        created, job_id = base64.urlsafe_b64decode(text).decode().split(" ")
        return float(created), _checked_id(job_id)
    except (ValueError, UnknownJob):
        raise InvalidInput("not a cursor of this list: take `next` of the page before", "/after") from None
