"""POST /predict: inputs for one model of any task."""

from typing import Any

from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import InvalidInput
from model_api.web.openapi import answer, problems
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, model_response
from model_api.web.schemas import PredictAnswer, PredictBody

blueprint = APIBlueprint("predictions", __name__, abp_tags=[Tag(name="models")])


@blueprint.post(
    "/predict",
    summary="Ask a model",
    responses={
        **answer(PredictAnswer, "One prediction per input, in order.", by_model=True),
        **problems(400, 404, 413, 415, 422, 500, 503, 504),
    },
)
def predict(body: PredictBody) -> ApiResponse:
    one = not isinstance(body.inputs, list)
    if body.inputs is None:
        raise InvalidInput("inputs must be one input or a list of them, not null", "/inputs")
    inputs = [body.inputs] if one else body.inputs
    try:
        found = current_service().predict(
            checked_address(body.model), inputs, body.parameters, current_request().context()
        )
    except InvalidInput as error:
        # The service sees a list in any case; the caller's body has no /inputs/0 if it gave one input.
        if one and (error.pointer == "/inputs/0" or error.pointer.startswith("/inputs/0/")):
            raise InvalidInput(str(error), "/inputs" + error.pointer[len("/inputs/0") :]) from error
        raise
    document: dict[str, Any] = {
        "model": found.model,
        "version": found.version,
        "digest": found.digest,
        "task": found.task,
        "predictions": found.predictions,
        "usage": {"tokens": found.n_tokens},
    }
    if len(found.truncated):
        document["truncated"] = found.truncated
    return model_response(document, found)
