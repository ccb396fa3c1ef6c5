"""POST /predict: inputs for one model of any task."""

from typing import Any

from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import InvalidInput
from model_api.jobs.work import PREDICT
from model_api.serving.documents import dump, predict_document
from model_api.tasks.text.conversations import is_conversation
from model_api.web.event_stream import event, stream_response
from model_api.web.later import now_or_later
from model_api.web.openapi import answer, problems
from model_api.web.problems import described
from model_api.web.requests import checked_address, current_request, current_service, current_streams
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
    if body.inputs is None:
        raise InvalidInput("inputs must be one input or a list of them, not null", "/inputs")
    checked_address(body.model)
    if body.stream:
        return _stream(body)
    try:
        return now_or_later(PREDICT, {k: v for k, v in vars(body).items() if k != "stream"}, lambda: _predict(body))
    except InvalidInput as error:
        raise InvalidInput(str(error), pointer_of_one(body.inputs, error.pointer)) from error


def _stream(body: PredictBody) -> ApiResponse:
    """The answer to one input, as it grows."""
    inputs = body.inputs
    if isinstance(inputs, list) and len(inputs) != 1 and not is_conversation(inputs):
        raise InvalidInput("one input at a time is streamed", "/inputs")
    item = inputs if not isinstance(inputs, list) or is_conversation(inputs) else inputs[0]
    try:
        stream = current_streams().stream(body.model, item, body.parameters, current_request().context())
    except InvalidInput as error:
        raise InvalidInput(str(error), pointer_of_one(None if item is inputs else inputs, error.pointer)) from error
    return stream_response(
        stream,
        part=lambda text: event(dump({"text": text})),
        end=lambda answer: iter([event(dump(predict_document(answer)), "answer")]),
        failure=lambda error: event(dump(described(error)), "problem"),
    )


def _predict(body: PredictBody) -> ApiResponse:
    inputs = body.inputs if isinstance(body.inputs, list) else [body.inputs]
    found = current_service().predict(body.model, inputs, body.parameters, current_request().context())
    return model_response(predict_document(found), found)


def pointer_of_one(inputs: Any, pointer: str) -> str:
    """The service sees a list in any case; the caller's body has no /inputs/0 if it gave one input."""
    if not isinstance(inputs, list) and (pointer == "/inputs/0" or pointer.startswith("/inputs/0/")):
        return "/inputs" + pointer[len("/inputs/0") :]
    return pointer
