"""Videos as the judge of dives has always been asked: an address to send one to, and by its key the score."""

import orjson
from flask_openapi3 import APIBlueprint, Tag

from model_api.jobs.uploads import AVI, MP4, QUICKTIME
from model_api.web.job_schemas import VideoKey, VideoType, VideoUpload
from model_api.web.openapi import answer, problems
from model_api.web.requests import current_jobs, current_owner, own_origin
from model_api.web.responses import ApiResponse, json_response
from model_api.web.routes import uploads
from model_api.web.routes.uploads import admit_job

blueprint = APIBlueprint("videos", __name__, abp_tags=[Tag(name="jobs")])
TYPES = {"mp4": MP4, "mov": QUICKTIME, "avi": AVI}
KIND = "video-regression"


@uploads.blueprint.get(  # flask-openapi3 describes those operations of a path that the last blueprint has
    "/uploads",
    summary="Ask where to send a video",
    description="What is sent there is judged by the server's model for videos; GET /fetch has the score.",
    responses={**answer(VideoUpload, "An address for it, good for an hour."), **problems(422, 503)},
)
def ask_for_video(query: VideoType) -> ApiResponse:
    parts = current_jobs().parts
    admit_job(KIND, None)
    upload = parts.uploads.ask(current_owner(), TYPES[query.type], None, None, {"kind": KIND})
    url = parts.upload_address(upload, False).url  # by PUT
    return json_response(
        {"uploadURL": (own_origin() if url[0] == "/" else "") + url, "Key": f"{upload.id}.{query.type}"}
    )


@blueprint.get(
    "/fetch",
    summary="A video's score",
    responses={
        200: {"description": "The score, a number; null as long as there is none."},
        **problems(404, 410, 422, 500, 503),
    },
)
def fetch(query: VideoKey) -> ApiResponse:
    jobs = current_jobs()
    payload = jobs.score_of(query.x.partition(".")[0], current_owner())
    if payload is None:
        return json_response(None)
    return json_response(orjson.loads(jobs.queue.content(payload))["predictions"][0]["score"])
