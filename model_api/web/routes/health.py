"""Liveness, readiness, the state of the shared file system, and the metrics. None of them waits for anything."""

from dataclasses import asdict
from typing import Any

from flask_openapi3 import APIBlueprint, Tag
from prometheus_client import CONTENT_TYPE_LATEST

from model_api.web.logs import StdoutHandler
from model_api.web.openapi import answer, problems, text
from model_api.web.problems import Row, problem
from model_api.web.requests import current_metrics, current_service
from model_api.web.responses import ApiResponse, json_response
from model_api.web.schemas import Alive, MountState, ReadinessState
from model_api.web.security.gate import current_gate

blueprint = APIBlueprint("health", __name__, abp_tags=[Tag(name="operations")])
NOT_READY = Row(503, "not-ready", "This instance is not ready", retry_after_s=5)
NOT_MOUNTED = Row(503, "not-mounted", "The shared file system is not mounted", retry_after_s=5)


@blueprint.get("/healthz", summary="Is the process alive?", responses=answer(Alive, "It is."))
def healthz() -> ApiResponse:
    return json_response({"status": "alive"})


@blueprint.get(
    "/readyz",
    summary="Should this instance get traffic?",
    responses={**answer(ReadinessState, "It should."), **problems(503)},
)
def readyz() -> ApiResponse:
    found = current_service().readiness()
    state: dict[str, Any] = {"ready": found.ready, "draining": found.draining, "models": dict(found.models)}
    gate = current_gate()
    keys = gate.ring.state()
    if keys.known or gate.settings.auth == "required":
        state["keys"] = keys.detail
    if found.ready:
        return json_response(state)
    waiting = "it is shutting down" if found.draining else "models are still being loaded"
    return problem(NOT_READY, waiting, state)


@blueprint.get(
    "/mount_check",
    summary="Is the shared file system mounted?",
    description="The last observation and its age; asking causes no access.",
    responses={**answer(MountState, "It is."), **problems(503)},
)
def mount_check() -> ApiResponse:
    found = current_service().mount()
    if found.mounted:
        return json_response(asdict(found))
    return problem(NOT_MOUNTED, found.detail, {"mounted": False, "age_s": found.age_s})


@blueprint.get("/metrics", summary="Metrics for Prometheus", responses=text("text/plain", "Prometheus' text format."))
def show_metrics() -> ApiResponse:
    metrics = current_metrics()
    mount = current_service().mount()
    metrics.mount_up.set(mount.mounted)
    metrics.mount_age_s.set(float("nan") if mount.age_s is None else mount.age_s)
    metrics.ready.set(current_service().readiness().ready)
    keys = current_gate().ring.state()
    metrics.keys_up.set(keys.detail == "ok")
    metrics.keys_age_s.set(float("nan") if keys.age_s is None else keys.age_s)
    metrics.lost_lines.set(StdoutHandler.lost_lines)
    return ApiResponse(metrics.render(), content_type=CONTENT_TYPE_LATEST)
