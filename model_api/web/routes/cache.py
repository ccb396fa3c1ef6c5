"""DELETE /cache: forget cached answers."""

from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import UnknownModel
from model_api.repository.manifest import NAME_PATTERN
from model_api.web.openapi import answer, problems
from model_api.web.requests import current_service
from model_api.web.responses import ApiResponse, json_response
from model_api.web.schemas import CacheCleared, CacheQuery

blueprint = APIBlueprint("cache", __name__, abp_tags=[Tag(name="operation")])


@blueprint.delete(
    "/cache",
    summary="Forget cached answers",
    description="Needs a key with the scope `operate`, whatever else is asked for.",
    responses={**answer(CacheCleared, "How many answers were forgotten."), **problems(401, 403, 404, 422, 503)},
)
def clear(query: CacheQuery) -> ApiResponse:
    if query.model is not None and not NAME_PATTERN.fullmatch(query.model):
        raise UnknownModel(query.model[:64])
    return json_response({"removed": current_service().clear_cache(query.model)})
