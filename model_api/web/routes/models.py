"""GET /models: what is published, what this instance serves of it, and why not."""

from dataclasses import asdict

from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import UnknownModel
from model_api.repository.manifest import NAME_PATTERN
from model_api.web.openapi import answer, problems
from model_api.web.requests import current_service
from model_api.web.responses import ApiResponse, json_response
from model_api.web.schemas import ModelDetails, ModelList, ModelPath

blueprint = APIBlueprint("models", __name__, abp_tags=[Tag(name="models")])


@blueprint.get("/models", summary="All models", responses=answer(ModelList, "Every published model."))
def list_models() -> ApiResponse:
    service = current_service()
    return json_response({"models": service.models(), "mount": asdict(service.mount())})


@blueprint.get(
    "/models/<name>",
    summary="One model with its versions",
    responses={**answer(ModelDetails, "The model."), **problems(404)},
)
def show_model(path: ModelPath) -> ApiResponse:
    if not NAME_PATTERN.fullmatch(path.name):
        raise UnknownModel(path.name[:64])
    return json_response(current_service().model(path.name))
