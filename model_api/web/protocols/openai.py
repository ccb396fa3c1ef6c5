"""OpenAI's embeddings, completions and models. Its client takes `<address>/v1` as base_url, and any key."""

from typing import Any

from flask_openapi3 import APIBlueprint

from model_api.errors import InvalidInput, UnknownModel
from model_api.serving.documents import dump
from model_api.serving.openai_embeddings import ENDPOINT, PARAMETERS, TASK, EmbeddingsCall
from model_api.serving.openai_generation import CHAT, COMPLETIONS, GenerationCall
from model_api.serving.openai_generation import TASK as GENERATION
from model_api.web.event_stream import event, stream_response
from model_api.web.problems import described
from model_api.web.protocols.openai_shape import error_of
from model_api.web.requests import checked_address, current_request, current_service, current_streams
from model_api.web.responses import ApiResponse, json_response, model_response

blueprint = APIBlueprint("openai", __name__)


@blueprint.route(ENDPOINT, methods=["POST"])
def embeddings() -> ApiResponse:
    call = EmbeddingsCall.read(current_request().get_json())
    service = current_service()
    task = service.model(checked_address(call.model).partition("@")[0]).get("task")
    if task not in (None, TASK):
        raise InvalidInput(f"{call.model} serves {task}, not {TASK}", "/model")
    try:
        found = service.predict(call.model, call.inputs, PARAMETERS, current_request().context())
    except InvalidInput as error:
        raise InvalidInput(str(error), error.pointer.replace("/inputs", "/input", 1)) from error
    return model_response(call.document(found), found)


@blueprint.route(CHAT, methods=["POST"])
def chat_completions() -> ApiResponse:
    return _generated(GenerationCall.read(current_request().get_json(), chat=True))


@blueprint.route(COMPLETIONS, methods=["POST"])
def completions() -> ApiResponse:
    return _generated(GenerationCall.read(current_request().get_json(), chat=False))


def _generated(call: GenerationCall) -> ApiResponse:
    task = current_service().model(checked_address(call.model).partition("@")[0]).get("task")
    if task not in (None, GENERATION):
        raise InvalidInput(f"{call.model} serves {task}, not {GENERATION}", "/model")
    context = current_request().context()
    try:
        if not call.stream:
            found = current_service().predict(call.model, call.inputs, call.parameters, context)
            return model_response(call.document(found), found)
        stream = current_streams().stream(call.model, call.inputs[0], call.parameters, context)
    except InvalidInput as error:
        raise InvalidInput(str(error), call.pointer(error.pointer)) from error
    return stream_response(
        stream,
        begin=b"".join(event(dump(chunk)) for chunk in call.first_chunks()),
        part=lambda text: event(dump(call.chunk(text))),
        end=lambda answer: iter([*(event(dump(chunk)) for chunk in call.last_chunks(answer)), event(b"[DONE]")]),
        failure=lambda error: event(dump({"error": error_of(described(error))})),
    )


@blueprint.route("/v1/models")
def models() -> ApiResponse:
    return json_response({"object": "list", "data": [_model(row) for row in current_service().models()]})


@blueprint.route("/v1/models/<path:name>")
def model(name: str) -> ApiResponse:
    checked_address(name)
    return json_response(_model(current_service().model(name.partition("@")[0]), name))


def _model(row: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    if "name" not in row:
        raise UnknownModel(name or "")
    return {"id": name or row["name"], "object": "model", "created": 0, "owned_by": "model-api"}
