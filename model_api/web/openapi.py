"""The OpenAPI document, and its parts that routes share: how answers and problems are described."""

from http import HTTPStatus
from typing import Any

from flask_openapi3 import OpenAPI
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from model_api.serving.documents import dump
from model_api.web import job_schemas, schemas

Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]
_HEADERS = {
    "X-Model": "The model that answered.",
    "X-Model-Version": "Its version.",
    "X-Model-Digest": "sha256 over its weights and every option that changes an answer.",
    "Server-Timing": "Milliseconds in the queue, in the forward, and in all.",
}
_PROBLEMS = {
    400: "The body is not a JSON object.",
    403: "An operator's key is wanted.",
    404: "No such model, or that version is not loaded here.",
    409: "The job isn't over yet, or is over already.",
    410: "The job has expired, or was cancelled.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    422: "A value of the body can't be served; `errors` points at it.",
    429: "Too many requests; Retry-After tells when to ask again.",
    500: "The model failed on this input.",
    503: "Too much is waiting, or the model isn't loaded; Retry-After tells when to ask again.",
    504: "No answer within the time limit.",
}


def problem(description: str) -> dict[str, Any]:
    """One response that is a problem document."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, "content": content}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}


def problems(*statuses: int) -> Responses:
    """Responses for `statuses`, each a problem document."""
    documents: Responses = {}
    for status in statuses:
        document = problem(_PROBLEMS[status])
        if status in (429, 503):
            seconds = {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}}
            document["headers"] = {"Retry-After": seconds}
        documents[status] = document
    return documents


def answer(model: type[BaseModel], description: str, *, by_model: bool = False, status: int = 200) -> Responses:
    """The response (200) with the schema of `model`, which build_document adds to the components."""
    document: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}},
        "headers": {"X-Request-Id": _header("The request's own X-Request-Id, or a fresh one.")},
    }
    if by_model:
        document["headers"] |= {name: _header(text) for name, text in _HEADERS.items()}
    return {status: document}


def text(media_type: str, description: str) -> Responses:
    """A 200 response of another media type."""
    return {200: {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}}


def build_document(app: OpenAPI) -> bytes:
    """The OpenAPI document: routes as flask-openapi3 collected them, schemas as pydantic itself writes them."""
    document: dict[str, Any] = dict(app.api_doc)
    found = {**vars(schemas), **vars(job_schemas)}.values()
    kinds = [kind for kind in found if isinstance(kind, type) and issubclass(kind, BaseModel)]
    parts = (*schemas.PARTS_OF_ADDRESSES, *job_schemas.PARTS_OF_ADDRESSES)
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (kind, "validation" if issubclass(kind, schemas.Body) else "serialization")
        for kind in kinds
        if kind not in (BaseModel, schemas.Body, *parts)
    ]
    _, collected = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    document["components"] = {"schemas": collected["$defs"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]  # flask-openapi3 adds its own form of it to routes that have none
            responses["default"] = problem("Any other error.")
    return dump(document)
