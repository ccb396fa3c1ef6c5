"""POST /rerank: how well each of some texts answers a query."""

from flask_openapi3 import APIBlueprint, Tag

from model_api.serving.reranking import rerank_document
from model_api.web.openapi import answer, problems
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, model_response
from model_api.web.schemas import RerankAnswer, RerankBody

blueprint = APIBlueprint("reranking", __name__, abp_tags=[Tag(name="models")])


@blueprint.post(
    "/rerank",
    summary="Order texts by how well they answer a query",
    responses={
        **answer(RerankAnswer, "One score per text, in order; the best, if asked for.", by_model=True),
        **problems(400, 404, 413, 415, 422, 500, 503, 504),
    },
)
def rerank(body: RerankBody) -> ApiResponse:
    if body.model is not None:
        checked_address(body.model)
    parameters = body.parameters if body.top_k is None else {**body.parameters, "top_k": body.top_k}
    found = current_service().rerank(body.query, body.texts, body.model, parameters, current_request().context())
    return model_response(rerank_document(found), found)
