"""The OpenAPI document, and its parts that routes share: how answers and problems are described."""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from flask_openapi3 import OpenAPI
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from model_api.repository.known_tasks import TASKS
from model_api.serving.documents import dump
from model_api.tasks import find_task
from model_api.web import history_schemas, job_schemas, schemas

API_VERSION = "1"
Responses = dict[str | int | HTTPStatus, type[BaseModel] | dict[Any, Any] | None]
_HEADERS = {
    "X-Model": "The model that answered.",
    "X-Model-Version": "Its version.",
    "X-Model-Digest": "sha256 over its weights and every option that changes an answer.",
    "X-Model-Precision": "What it computed in: float32, bfloat16 or int8.",
    "X-Model-Min-Cosine": "How near that is to float32 at least, on the texts that its publish measured; where it did.",
    "Server-Timing": "Milliseconds in the queue, in the forward, and in all.",
}
_PROBLEMS = {
    400: "The body is not a JSON object.",
    401: "A key is wanted.",
    403: "The key isn't for this.",
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


# method, path -> how a generated client calls it, and under which noun
_OPERATIONS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("post", "/sim"): ("compare", "similarity"),
    ("post", "/predict"): ("predict", "predictions"),
    ("post", "/rerank"): ("rerank", "reranking"),
    ("post", "/score"): ("score", "scores"),
    ("get", "/models"): ("list_models", "models"),
    ("get", "/models/{name}"): ("get_model", "models"),
    ("post", "/jobs"): ("submit_job", "jobs"),
    ("get", "/jobs"): ("list_jobs", "jobs"),
    ("get", "/jobs/{id}"): ("get_job", "jobs"),
    ("delete", "/jobs/{id}"): ("cancel_job", "jobs"),
    ("get", "/jobs/{id}/result"): ("get_job_result", "jobs"),
    ("post", "/jobs/{id}/retry"): ("retry_job", "jobs"),
    ("post", "/uploads"): ("create_upload", "uploads"),
    ("get", "/uploads"): ("create_video_upload", "uploads"),
    ("get", "/fetch"): ("fetch_score", "uploads"),
    ("get", "/uploads/{id}"): ("get_upload", "uploads"),
    ("put", "/uploads/{id}"): ("send_upload", "uploads"),
    ("post", "/log"): ("log_predictions", "history"),
    ("get", "/history"): ("list_predictions", "history"),
    ("get", "/history/counts"): ("count_predictions", "history"),
    ("get", "/history/statistics"): ("get_statistics", "history"),
    ("get", "/history/labels"): ("list_labels", "history"),
    ("get", "/history/samples"): ("sample_predictions", "history"),
    ("get", "/history/{id}"): ("get_prediction", "history"),
    ("patch", "/history/{id}"): ("refer_prediction", "history"),
    ("delete", "/cache"): ("clear_cache", "cache"),
    ("get", "/healthz"): ("get_liveness", "health"),
    ("get", "/readyz"): ("get_readiness", "health"),
    ("get", "/mount_check"): ("check_mount", "health"),
    ("get", "/metrics"): ("get_metrics", "health"),
    ("get", "/"): ("get_index", "pages"),
    ("get", "/docs"): ("get_documentation", "pages"),
    ("get", "/openapi.json"): ("get_openapi", "pages"),
}
SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, mk_<id>_<secret>."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The same."},
    "basic": {"type": "http", "scheme": "basic", "description": "The same, as the password."},
}
_REF = "#/components/schemas/{model}"


def build_document(app: OpenAPI, needs_key: Callable[[str, str], bool | None]) -> bytes:
    """The OpenAPI document: routes as flask-openapi3 collected them, schemas as pydantic itself writes them.
    `needs_key(method, path)` tells which routes want a key; None: one may be sent."""
    document: dict[str, Any] = dict(app.api_doc)
    document["components"] = {"schemas": _schemas(), "securitySchemes": SECURITY_SCHEMES}
    tags: dict[str, None] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            # What isn't in the table is other people's: their protocol's own tag stays, and their form of an error.
            own = operation["operationId"], operation.get("tags", ["other"])[0]
            operation["operationId"], tag = _OPERATIONS.get((method, path), own)
            operation["tags"] = [tag]
            tags[tag] = None
            needed = needs_key(method, path)
            if needed is not False:
                ways: list[dict[str, list[str]]] = [{scheme: []} for scheme in SECURITY_SCHEMES]
                operation["security"] = ways if needed else [{}, *ways]
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]  # flask-openapi3 adds its own form of it to routes that have none
            responses.setdefault("default", problem("Any other error."))
    document["tags"] = [{"name": name} for name in tags]
    return dump(document)


def _schemas() -> dict[str, Any]:
    """Of bodies and answers, and of what each task takes and gives."""
    defined = {**vars(schemas), **vars(job_schemas), **vars(history_schemas)}.values()
    kinds = [kind for kind in defined if isinstance(kind, type) and issubclass(kind, BaseModel)]
    parts = (*schemas.PARTS_OF_ADDRESSES, *job_schemas.PARTS_OF_ADDRESSES, *history_schemas.PARTS_OF_ADDRESSES)
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (kind, "validation" if issubclass(kind, schemas.Body) else "serialization")
        for kind in kinds
        if kind not in (BaseModel, schemas.Body, *parts)
    ]
    tasks = [find_task(name) for name in TASKS]
    modes += [(task.parameters, "validation") for task in tasks]
    _, collected = models_json_schema(modes, ref_template=_REF)
    found: dict[str, Any] = collected["$defs"]
    predictions = []
    for task in tasks:
        schema = TypeAdapter(task.prediction).json_schema(ref_template=_REF, mode="serialization")
        found |= schema.pop("$defs", {})
        if "title" in schema:
            found[schema["title"]] = schema
            schema = {"$ref": _REF.format(model=schema["title"])}
        predictions += [schema] if schema and schema not in predictions else []
    names = dict.fromkeys(task.parameters.__name__ for task in tasks)
    found["PredictAnswer"]["properties"]["predictions"]["items"] = {"anyOf": predictions}
    found["PredictBody"]["properties"]["parameters"]["anyOf"] = [{"$ref": _REF.format(model=name)} for name in names]
    return found
