"""POST /sim: how similar texts are to a target."""

from collections.abc import Sequence

from flask_openapi3 import APIBlueprint, Tag

from model_api.jobs.work import SIM
from model_api.serving.documents import similarity_document
from model_api.web.later import now_or_later
from model_api.web.openapi import answer, problems
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, model_response
from model_api.web.schemas import SimAnswer, SimBody

MAX_LISTED = 100
blueprint = APIBlueprint("similarity", __name__, abp_tags=[Tag(name="models")])


@blueprint.post(
    "/sim",
    summary="Compare texts with a target",
    responses={
        **answer(SimAnswer, "One similarity per text, in order.", by_model=True),
        **problems(400, 404, 413, 415, 422, 500, 503, 504),
    },
)
def similarity(body: SimBody) -> ApiResponse:
    if body.model is not None:
        checked_address(body.model)
    return now_or_later(SIM, vars(body), lambda: _similarity(body))


def truncated_header(truncated: Sequence[int]) -> str:
    """The body's form is fixed, so a header tells: indices into texts, and the target by name. A header must not grow
    with the body, or proxies refuse the whole answer: beyond MAX_LISTED it ends with how many more there are, and
    `"list_truncated": true` puts them all into the body."""
    names = ["target" if index < 0 else str(index) for index in sorted(truncated)]
    more = [f"and {len(names) - MAX_LISTED} more"] if len(names) > MAX_LISTED else []
    return ",".join(names[:MAX_LISTED] + more)


def _similarity(body: SimBody) -> ApiResponse:
    found = current_service().similarity(
        body.target, body.texts, body.model, body.parameters, current_request().context()
    )
    response = model_response(similarity_document(body.target, body.texts, found, body.list_truncated), found)
    if len(found.truncated):
        response.late_headers.append(("X-Truncated", truncated_header(found.truncated)))
    return response
