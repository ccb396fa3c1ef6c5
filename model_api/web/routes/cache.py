"""DELETE /cache: forget cached answers."""

import hmac

from flask import current_app, request
from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import OperatorOnly, UnknownModel
from model_api.repository.manifest import NAME_PATTERN
from model_api.settings import Settings
from model_api.web.openapi import answer, problems
from model_api.web.requests import current_service
from model_api.web.responses import ApiResponse, json_response
from model_api.web.schemas import CacheCleared, CacheQuery

blueprint = APIBlueprint("cache", __name__, abp_tags=[Tag(name="operation")])


@blueprint.delete(
    "/cache",
    summary="Forget cached answers",
    description="Needs `Authorization: Bearer KEY` with the key of MODEL_API_OPERATOR_KEY.",
    responses={**answer(CacheCleared, "How many answers were forgotten."), **problems(403, 404, 422, 503)},
)
def clear(query: CacheQuery) -> ApiResponse:
    require_operator()
    if query.model is not None and not NAME_PATTERN.fullmatch(query.model):
        raise UnknownModel(query.model[:64])
    return json_response({"removed": current_service().clear_cache(query.model)})


def require_operator() -> None:
    """Raises OperatorOnly unless the request carries the operator's key."""
    settings: Settings = current_app.extensions["model_api_settings"]
    if settings.operator_key is None:
        raise OperatorOnly("this server has no operator's key; MODEL_API_OPERATOR_KEY sets it")
    kind, _, key = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer" or not hmac.compare_digest(key.strip().encode(), settings.operator_key.encode()):
        raise OperatorOnly("send the operator's key as Authorization: Bearer KEY")
