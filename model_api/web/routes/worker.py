"""What Beanstalk's daemon posts to an instance of a worker environment: the queue's messages, and its clock's ticks.

Only 200 takes a message off the queue. A message only wakes: whether there is something to do, the job's record says.
So one that comes twice, too late, or for a job that another worker runs is answered 200 as well; what a dead worker
left is found by its lease, and told again.
"""

import ipaddress
import logging
from typing import Any
from urllib.parse import unquote_plus

import flask
from flask import current_app, request
from flask_openapi3 import APIBlueprint

from model_api.errors import InvalidInput, RequestError
from model_api.jobs.uploads import BYTES
from model_api.settings import Settings
from model_api.web.requests import current_jobs, current_request
from model_api.web.responses import ApiResponse, json_response

blueprint = APIBlueprint("worker", __name__)
LOGGER = logging.getLogger("model_api.worker")


@blueprint.route("/worker/jobs", methods=["POST"])
def work() -> ApiResponse:
    """Run the job that a message names, to its end; or take note of uploads that came into the bucket."""
    _require_daemon()
    message = current_request().get_json()
    if isinstance(message.get("job"), str):
        job = current_jobs().parts.runner.run_one(message["job"])
        return json_response({"status": None if job is None else str(job.status)})
    if isinstance(message.get("Records"), list):
        return json_response({"uploads": [_take_note(record) for record in message["Records"]]})
    return json_response({"ignored": True})  # s3:TestEvent, say: it would only come again


@blueprint.route("/worker/cron/<name>", methods=["POST"])
def tick(name: str) -> ApiResponse:
    """What cron.yaml asks for now and then: to sweep, or to begin a pipeline's job of the day."""
    _require_daemon()
    if name != "sweep":
        try:
            job, _ = current_jobs().submit_daily(name, None, "")
        except InvalidInput as error:  # it would be the same again
            LOGGER.error("a pipeline can't be begun", extra={"fields": {"pipeline": name[:64], "error": str(error)}})
            return json_response({"error": str(error)})
        return json_response({"job": job.id})
    sweeper = current_jobs().parts.sweeper
    dropped = sweeper.drop_expired()
    return json_response({"dropped": dropped, "woken": sweeper.wake_waiting()})


def _take_note(record: Any) -> str:
    """An object was created. What is no upload of ours, or no longer, is nobody's business."""
    try:
        key = unquote_plus(record["s3"]["object"]["key"])
    except (LookupError, TypeError):
        return "not an object"
    kind, _, name = key.partition("/")
    if kind != BYTES:
        return "not an upload"
    jobs = current_jobs()
    try:
        upload = jobs.parts.uploads.arrived(name.partition(".")[0])
        return jobs.start_job_of(upload) if upload.job is not None else "accepted"
    except RequestError as error:
        return str(error)  # it would be the same again; what else goes wrong is 503, and the message comes again


def _require_daemon() -> None:
    """404 unless a daemon on this very machine posts, on an instance that is a worker.

    nginx stands between, so the direct peer is always this machine; it adds the true peer to X-Forwarded-For.
    """
    settings: Settings = current_app.extensions["model_api_settings"]
    peers = [request.environ.get("REMOTE_ADDR", ""), *request.headers.get("X-Forwarded-For", "").split(",")]
    from_here = all(_is_loopback(peer.strip()) for peer in peers if peer.strip())
    if settings.role != "worker" or not from_here or not request.headers.get("X-Aws-Sqsd-Msgid"):
        flask.abort(404)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
