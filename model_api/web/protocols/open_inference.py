"""The Open Inference Protocol v2, as Triton's client speaks it: texts in, tensors out; JSON or binary."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import current_app

from model_api.errors import InvalidInput
from model_api.serving.documents import dump
from model_api.settings import Settings
from model_api.web.json_bodies import parse_object
from model_api.web.openapi import API_VERSION
from model_api.web.protocols.dialect import (
    LIST,
    SERVING,
    Dialect,
    Fields,
    ModelOfPath,
    Told,
    VersionOfPath,
    ask,
    documented,
    plain,
    routes,
    task_of,
    told_detail,
)
from model_api.web.protocols.tensors import OutputTensor, TextTensor, metadata_of, outputs_of, read_inputs, split_body
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, json_response, model_response

PREFIX = "/v2"
LENGTH_HEADER = "Inference-Header-Content-Length"
NAME = "model-api"
READY = "ready"  # of a version that is loaded
blueprint = routes("open_inference", "open-inference-protocol")
# Of the protocol and its extensions; the rest of a request's parameters are the task's.
_IGNORED = ("priority", "timeout", "binary_data_output")
_SEQUENCES = ("sequence_id", "sequence_start", "sequence_end")
_AN_OBJECT = documented(schema={"type": "object"})
_EXAMPLE = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["A sentence."]}]}
_TENSORS = documented(_EXAMPLE, "Tensors.", {"type": "object"})


def tell(problem: Mapping[str, Any]) -> Told:
    status = int(problem["status"])
    return Told(400 if status == 422 else status, {"error": told_detail(problem)})


@blueprint.get("/v2", summary="What speaks here", **_AN_OBJECT)
def server() -> ApiResponse:
    return json_response(
        {"name": NAME, "version": API_VERSION, "extensions": ["binary_tensor_data", "model_repository"]}
    )


@blueprint.get("/v2/health/live", summary="Is the process alive?", **_AN_OBJECT)
def live() -> ApiResponse:
    return json_response({"live": True})


@blueprint.get("/v2/health/ready", summary="Should this instance get traffic?", **_AN_OBJECT)
def ready() -> ApiResponse:
    is_ready = current_service().readiness().ready
    return json_response({"ready": is_ready}, 200 if is_ready else 503)


@blueprint.post("/v2/repository/index", summary="All models", **documented({}, "The models.", LIST))
def index() -> ApiResponse:
    rows = [row for row in current_service().models() if "name" in row]
    return json_response([_indexed(row) for row in rows])


def _indexed(row: Mapping[str, Any]) -> dict[str, Any]:
    is_served = row.get("state") == SERVING
    reasons = [str(refused["reason"]) for refused in row.get("refused") or ()]
    state = "READY" if is_served else "UNAVAILABLE"
    return {"name": row["name"], "version": row.get("version") or "", "state": state, "reason": "; ".join(reasons)}


@blueprint.get("/v2/models/<model>", summary="A model's inputs and outputs", **_AN_OBJECT)
def model(path: ModelOfPath) -> ApiResponse:
    return _metadata(path.model)


@blueprint.get(
    "/v2/models/<model>/versions/<version>",
    summary="A version's inputs and outputs",
    **_AN_OBJECT,
)
def version(path: VersionOfPath) -> ApiResponse:
    return _metadata(f"{path.model}@{path.version}")


@blueprint.get("/v2/models/<model>/ready", summary="Is a model served?", **_AN_OBJECT)
def model_ready(path: ModelOfPath) -> ApiResponse:
    return _readiness(path.model)


@blueprint.get(
    "/v2/models/<model>/versions/<version>/ready",
    summary="Is a version served?",
    **_AN_OBJECT,
)
def version_ready(path: VersionOfPath) -> ApiResponse:
    return _readiness(f"{path.model}@{path.version}")


@blueprint.post("/v2/models/<model>/infer", summary="Ask a model", **_TENSORS)
def infer(path: ModelOfPath) -> ApiResponse:
    return _infer(path.model)


@blueprint.post(
    "/v2/models/<model>/versions/<version>/infer",
    summary="Ask a version of a model",
    **_TENSORS,
)
def infer_version(path: VersionOfPath) -> ApiResponse:
    return _infer(f"{path.model}@{path.version}")


def _metadata(address: str) -> ApiResponse:
    task = task_of(address)
    row = current_service().model(address.partition("@")[0])
    inputs, outputs = metadata_of(task)
    versions = [str(one["version"]) for one in row.get("versions") or ()]
    return json_response(
        {"name": row["name"], "versions": versions, "platform": task, "inputs": inputs, "outputs": outputs}
    )


def _readiness(address: str) -> ApiResponse:
    name, _, version = checked_address(address).partition("@")
    row = current_service().model(name)
    states = {str(one["version"]): one.get("state") for one in row.get("versions") or ()}
    is_ready = states.get(version) == READY if version else row.get("state") == SERVING
    return json_response({"name": name, "ready": is_ready}, 200 if is_ready else 503)


def _infer(address: str) -> ApiResponse:
    request, settings = current_request(), current_app.extensions["model_api_settings"]
    assert isinstance(settings, Settings)
    head, tail = split_body(request.get_bytes(), request.headers.get(LENGTH_HEADER))
    body = Fields(parse_object(head))
    parameters = Fields(body.take("parameters", dict, {}), "/parameters")
    wants_binary = parameters.take("binary_data_output", bool, False)
    request_id = body.take("id", str)
    wanted = _wanted(body.take("outputs", list, []), wants_binary)
    inputs = read_inputs(body.need("inputs", list), tail, settings.max_inputs)
    body.end()
    task = task_of(address)
    found = _asked(address, task, inputs, _parameters(parameters))
    given = {one.name: one for one in outputs_of(task, plain(found))}
    if unknown := next((name for name in wanted if name not in given), None):
        raise InvalidInput(f"no such output: {unknown[:64]!r}; there are {', '.join(given)}", "/outputs")
    chosen = wanted or dict.fromkeys(given, wants_binary)
    document = {"model_name": found.model, "model_version": found.version, **({"id": request_id} if request_id else {})}
    response = model_response(document, found)
    return _with_tensors(response, document, [(given[name], binary) for name, binary in chosen.items()])


def _wanted(outputs: Sequence[Any], wants_binary: bool) -> dict[str, bool]:
    """Names of outputs, and whether each is wanted in binary."""
    wanted: dict[str, bool] = {}
    for i, one in enumerate(outputs):
        fields = Fields(one, f"/outputs/{i}")
        name = fields.need("name", str)
        parameters = Fields(fields.take("parameters", dict, {}), f"/outputs/{i}/parameters")
        wanted[name] = parameters.take("binary_data", bool, wants_binary)
        if parameters.take("classification", int, 0):
            raise InvalidInput(
                "classes are an output of their own here, `label`", f"/outputs/{i}/parameters/classification"
            )
        parameters.end()
        fields.end()
    return wanted


def _parameters(given: Fields) -> dict[str, Any]:
    """The task's own."""
    found = given.rest()
    for name in _IGNORED:
        found.pop(name, None)
    if any(found.pop(name, None) for name in _SEQUENCES):
        raise InvalidInput("sequences of requests aren't kept here", "/parameters/sequence_id")
    return found


def _asked(address: str, task: str, inputs: list[TextTensor], parameters: Mapping[str, Any]) -> Any:
    wanted = [str(one["name"]) for one in metadata_of(task)[0]]
    if task == "reranking":
        by_name = {one.name: one for one in inputs}
        if sorted(by_name) != sorted(wanted) or len(inputs) != len(wanted) or len(by_name["query"].texts) != 1:
            raise InvalidInput("wants an input `query` of one text, and an input `texts`", "/inputs")
        asked = {"query": by_name["query"].texts[0], "texts": by_name["texts"].texts}
        return ask(address, [asked], parameters, "/inputs=")
    if len(inputs) != 1:
        raise InvalidInput(f"one input is wanted, {wanted[0]!r}; {len(inputs)} are given", "/inputs")
    if len(inputs[0].shape) > 2 or (len(inputs[0].shape) == 2 and inputs[0].shape[1] != 1):
        raise InvalidInput("must be [n] or [n, 1]: a text per row", f"{inputs[0].place}/shape")
    return ask(address, inputs[0].texts, parameters, f"{inputs[0].place}/data")


def _with_tensors(
    response: ApiResponse, document: dict[str, Any], outputs: Sequence[tuple[OutputTensor, bool]]
) -> ApiResponse:
    """The JSON, and behind it what is wanted in binary."""
    shown, tails = [], []
    for output, binary in outputs:
        if not binary:
            shown.append(output.document())
            continue
        tails.append(output.binary())
        kind = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        shown.append({**kind, "parameters": {"binary_data_size": len(tails[-1])}})
    head = dump({**document, "outputs": shown})
    response.set_data(b"".join([head, *tails]))
    if tails:
        response.content_type = "application/octet-stream"
        response.headers[LENGTH_HEADER] = str(len(head))
    return response


DIALECT = Dialect(blueprint, (PREFIX,), tell)
