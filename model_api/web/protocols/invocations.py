"""/invocations, as MLflow's scoring server and SageMaker's containers take it, and SageMaker's runtime calls it.

A body is one of MLflow's five forms, or system B's `{"articles": [...]}`; the model is that of the header X-Model or of
the endpoint's name, else the setting's.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from flask import current_app
from werkzeug.exceptions import UnsupportedMediaType

from model_api.errors import InvalidInput, MalformedRequest
from model_api.serving.documents import dump
from model_api.settings import Settings
from model_api.web.openapi import API_VERSION
from model_api.web.protocols.dialect import (
    Dialect,
    Fields,
    ModelOfPath,
    Told,
    ask,
    check_texts,
    documented,
    model_of_request,
    plain,
    routes,
    told_detail,
)
from model_api.web.requests import current_request, current_service
from model_api.web.responses import ApiResponse, model_response

blueprint = routes("invocations", "invocations")
CSV = "text/csv"
ARTICLES = "articles"
_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs", ARTICLES)
_SPLIT = ("columns", "data")
_EXAMPLE = {"dataframe_split": {"columns": ["text"], "data": [["A sentence."]]}}
_AWS_ERRORS = {"model-not-ready": (429, "ModelNotReadyException")}
_CODES = {
    404: "RESOURCE_DOES_NOT_EXIST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    429: "REQUEST_LIMIT_EXCEEDED",
}


def tell(problem: Mapping[str, Any]) -> Told:
    """As MLflow's exceptions are."""
    status = int(problem["status"])
    message = told_detail(problem)
    code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "TEMPORARILY_UNAVAILABLE")
    return Told(
        400 if status == 422 else status,
        {"error_code": "INTERNAL_ERROR" if status == 500 else code, "message": message},
    )


def tell_aws(problem: Mapping[str, Any]) -> Told:
    """As SageMaker's runtime does: what the model refused is a ModelError with the model's own status."""
    status, slug = int(problem["status"]), str(problem["type"]).rpartition("/")[2]
    detail = told_detail(problem)
    if slug in _AWS_ERRORS:
        shown, kind = _AWS_ERRORS[slug]
    elif status in (401, 403):
        shown, kind = 403, "AccessDeniedException"
    elif status in (404, 405, 413, 415):
        shown, kind = 405 if status == 405 else 400, "ValidationError"
    elif status == 503:
        shown, kind = 503, "ServiceUnavailable"
    else:
        told = {"Message": detail, "OriginalStatusCode": status, "OriginalMessage": dump(problem).decode()}
        return Told(424, told, {"x-amzn-ErrorType": "ModelError"})
    return Told(shown, {"Message": detail}, {"x-amzn-ErrorType": kind})


@blueprint.get("/ping", summary="Does it serve?", **documented(schema={"type": "object"}))
def ping() -> ApiResponse:
    return ApiResponse(b"{}\n", 200 if current_service().readiness().ready else 503, content_type="application/json")


@blueprint.get("/version", summary="Which interface", **documented(schema={"type": "string"}, media_type="text/plain"))
def version() -> ApiResponse:
    return ApiResponse(API_VERSION, content_type="text/plain; charset=utf-8")


@blueprint.post("/invocations", summary="Ask a model by MLflow's or SageMaker's forms", **documented(_EXAMPLE))
def invoke() -> ApiResponse:
    return _answer(model_of_request())


@blueprint.post(
    "/endpoints/<model>/invocations", summary="Ask a model, as SageMaker's runtime does", **documented(_EXAMPLE)
)
def invoke_endpoint(path: ModelOfPath) -> ApiResponse:
    response = _answer(path.model)
    response.headers["x-Amzn-Invoked-Production-Variant"] = current_request().answer.version  # type: ignore[union-attr]
    return response


def _answer(model: str) -> ApiResponse:
    request = current_request()
    if request.mimetype == CSV:
        found = ask(model, _csv_rows(request.get_bytes()), {}, "/rows")
        return model_response({"predictions": plain(found)}, found)
    if request.mimetype not in ("application/json", ""):
        raise UnsupportedMediaType("send application/json or text/csv")
    body = request.get_json()
    forms = [name for name in _FORMS if name in body]
    if len(forms) != 1:
        raise InvalidInput(f"one of {', '.join(_FORMS)} is wanted, {len(forms)} are there", "")
    (form,) = forms
    fields = Fields(body)
    given = fields.rest()
    value = given.pop(form, None)
    if value is None:
        raise InvalidInput("must not be null", f"/{form}")
    parameters = {**_object(given.pop("params", {}), "/params"), **_object(given.pop("parameters", {}), "/parameters")}
    given.pop("signature_name", None)  # TensorFlow Serving's, which MLflow takes and leaves
    for name in given:
        raise InvalidInput("no such field", f"/{name[:64]}")
    inputs = _read(form, value)
    _check_number(inputs, f"/{form}")
    found = ask(model, inputs, parameters, "/dataframe_split/data" if form == "dataframe_split" else f"/{form}")
    predictions = plain(found)
    if form == ARTICLES:
        return model_response(
            [one["text"] if isinstance(one, dict) and "text" in one else one for one in predictions], found
        )
    return model_response({"predictions": predictions}, found)


def _text(prediction: Any) -> Any:
    return prediction["text"] if isinstance(prediction, dict) and "text" in prediction else prediction


def _object(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput("must be an object", place)
    return value


def _read(form: str, value: Any) -> list[Any]:
    """The inputs, one per row."""
    place = f"/{form}"
    if form == ARTICLES:
        articles: list[Any] = [value] if isinstance(value, str) else value
        if not isinstance(articles, list):
            raise InvalidInput("must be a list of texts", place)
        check_texts(articles, place)
        return articles
    if form == "dataframe_split":
        return _split(value, place)
    if form == "inputs" and isinstance(value, dict):
        return _columns(value, place)
    if not isinstance(value, list):
        value = [value]
    if form == "dataframe_records" and not all(isinstance(row, dict) for row in value):
        raise InvalidInput("must be a list of objects", place)
    return [_row(row) for row in value]


def _split(value: Any, place: str) -> list[Any]:
    fields = Fields(value, place)
    fields.take("index", list)
    columns, data = (fields.need(name, list) for name in _SPLIT)
    fields.end()
    if not columns or not all(isinstance(name, str) for name in columns):
        raise InvalidInput("must be names, one at least", f"{place}/columns")
    for i, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InvalidInput(f"must be a list of {len(columns)}, as there are columns", f"{place}/data/{i}")
    return [_row(dict(zip(columns, row, strict=True))) for row in data]


def _columns(value: Mapping[str, Any], place: str) -> list[Any]:
    """TensorFlow Serving's columnar form: each name with as many values as there are rows."""
    lists = {name: column if isinstance(column, list) else [column] for name, column in value.items()}
    if len({len(column) for column in lists.values()}) != 1:
        raise InvalidInput("all columns must be equally long, and there must be one", place)
    return [_row(dict(zip(lists, row, strict=True))) for row in zip(*lists.values(), strict=True)]


def _row(row: Any) -> Any:
    """A row of one column is its value, whatever the column is called; so is a list of one."""
    if isinstance(row, dict) and len(row) == 1:
        (row,) = row.values()
    return row[0] if isinstance(row, list) and len(row) == 1 else row


def _check_number(inputs: Sequence[Any], place: str) -> None:
    settings: Settings = current_app.extensions["model_api_settings"]
    if not inputs:
        raise InvalidInput("holds no row", place)
    if len(inputs) > settings.max_inputs:
        raise InvalidInput(f"{len(inputs)} rows, at most {settings.max_inputs} are accepted", place)


def _csv_rows(body: bytes) -> list[Any]:
    """A table with a header; several columns are an object per row."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"byte {error.start} of the table is not UTF-8") from None
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise MalformedRequest(f"the table can't be read: {error}") from None
    rows = [row for row in rows if row]
    if not rows:
        raise MalformedRequest("the table is empty; its first line names the columns")
    header, *data = rows
    for i, row in enumerate(data):
        if len(row) != len(header):
            raise InvalidInput(f"row {i + 1} has {len(row)} values, the header {len(header)}", f"/rows/{i}")
    _check_number(data, "/rows")
    return [_row(dict(zip(header, row, strict=True))) for row in data]


DIALECTS = (
    Dialect(blueprint, ("/invocations", "/ping", "/version"), tell),
    Dialect(None, ("/endpoints/",), tell_aws),
)
