"""Text Embeddings Inference: its routes below /tei/<model>, so that a client takes that as its server's address."""

from collections.abc import Mapping
from typing import Any

from model_api.errors import InvalidInput
from model_api.web.protocols.dialect import (
    LIST,
    Dialect,
    Fields,
    ModelOfPath,
    Told,
    ask,
    check_texts,
    documented,
    need_task,
    plain,
    routes,
    task_of,
    told_detail,
)
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, json_response, model_response

PREFIX = "/tei/"
blueprint = routes("tei", "text-embeddings-inference")
_KINDS = {"embedding": "embedding", "text-classification": "classifier", "reranking": "reranker"}
_PAIR = 2


def tell(problem: Mapping[str, Any]) -> Told:
    """Its error body. What it calls overloaded is 429 there."""
    status, slug = int(problem["status"]), str(problem["type"]).rpartition("/")[2]
    kind = "Validation" if status < 500 else "Backend"
    if slug == "queue-full":
        status, kind = 429, "Overloaded"
    elif status == 503:
        kind = "Unhealthy"
    return Told(status, {"error": told_detail(problem), "error_type": kind})


@blueprint.post(
    "/tei/<model>/embed",
    summary="Embed texts",
    **documented({"inputs": ["A sentence."], "normalize": True}, "A vector per text.", LIST),
)
def embed(path: ModelOfPath) -> ApiResponse:
    body = Fields(current_request().get_json())
    inputs = body.need("inputs", (str, list), called="a text, or a list of texts")
    parameters = {**_parameters(body), "normalize": body.take("normalize", bool, True)}
    if (dimensions := body.take("dimensions", int)) is not None:
        parameters["dimensions"] = dimensions
    body.end()
    if isinstance(inputs, list):
        check_texts(inputs, "/inputs")
    need_task(path.model, "embedding")
    alone = isinstance(inputs, str)
    found = ask(path.model, [inputs] if alone else inputs, parameters, "/inputs=" if alone else "/inputs")
    return model_response(found.predictions, found)


@blueprint.post(
    "/tei/<model>/rerank",
    summary="Order texts by how well they answer a query",
    **documented(
        {"query": "When does it open?", "texts": ["On Monday.", "It rains."], "return_text": True},
        "The best first.",
        LIST,
    ),
)
def rerank(path: ModelOfPath) -> ApiResponse:
    body = Fields(current_request().get_json())
    query, texts = body.need("query", str), body.texts("texts")
    parameters = _parameters(body)
    if body.take("raw_scores", bool, False):
        raise InvalidInput(
            "scores are what the model's own activation makes of them: there are no others", "/raw_scores"
        )
    with_text = body.take("return_text", bool, False)
    body.end()
    need_task(path.model, "reranking")
    parameters.pop("prompt_name", None)
    found = ask(path.model, [{"query": query, "texts": texts}], parameters, "=")
    scores = plain(found)[0]["scores"]
    order = sorted(range(len(texts)), key=lambda i: (-float(scores[i]), i))
    ranks = [{"index": i, "score": scores[i], **({"text": texts[i]} if with_text else {})} for i in order]
    return model_response(ranks, found)


@blueprint.post(
    "/tei/<model>/predict",
    summary="Classify texts, or pairs of them",
    **documented({"inputs": "I like it."}, "Labels, best first; of a batch a list of such lists.", LIST),
)
def predict(path: ModelOfPath) -> ApiResponse:
    body = Fields(current_request().get_json())
    inputs = body.need("inputs", (str, list), called="a text, a pair of texts, or a list of lists of these")
    parameters = {**_parameters(body), "all_labels": True}
    parameters.pop("prompt_name", None)
    if body.take("raw_scores", bool, False):
        raise InvalidInput("scores are probabilities: there are no others", "/raw_scores")
    body.end()
    need_task(path.model, "text-classification")
    is_batch = isinstance(inputs, list) and bool(inputs) and isinstance(inputs[0], list)
    rows = [_sequence(one, f"/inputs/{i}") for i, one in enumerate(inputs)] if is_batch else [_sequence(inputs)]
    found = ask(path.model, rows, parameters, "/inputs" if is_batch else "/inputs=")
    labels = [one["labels"] for one in plain(found)]
    return model_response(labels if is_batch else labels[0], found)


@blueprint.post(
    "/tei/<model>/similarity",
    summary="Compare sentences with one",
    **documented({"inputs": {"source_sentence": "A cat.", "sentences": ["A kitten."]}}, "One per sentence.", LIST),
)
def similarity(path: ModelOfPath) -> ApiResponse:
    body = Fields(current_request().get_json())
    inputs = Fields(body.need("inputs", dict), "/inputs")
    parameters = _parameters(Fields(body.take("parameters", dict, {}), "/parameters"), ends=True)
    body.end()
    source, sentences = inputs.need("source_sentence", str), inputs.texts("sentences")
    inputs.end()
    return compare(path.model, source, sentences, parameters)


def compare(model: str, source: str, sentences: list[str], parameters: Mapping[str, Any]) -> ApiResponse:
    """A similarity per sentence. Raises InvalidInput that points into `inputs`."""
    need_task(model, "embedding")
    names = {"/target": "/inputs/source_sentence", "/texts": "/inputs/sentences"}
    try:
        found = current_service().similarity(
            source, sentences, checked_address(model), parameters, current_request().context()
        )
    except InvalidInput as error:
        head = "/" + error.pointer[1:].partition("/")[0]
        raise InvalidInput(str(error), names.get(head, head) + error.pointer[len(head) :]) from error
    return model_response(found.predictions, found)


@blueprint.get("/tei/<model>/info", summary="What is served", **documented(schema={"type": "object"}))
def info(path: ModelOfPath) -> ApiResponse:
    kind = _KINDS.get(task_of(path.model))
    row = current_service().model(path.model.partition("@")[0])
    if kind is None:
        raise InvalidInput(f"{path.model} serves {row.get('task')}, which this protocol doesn't know", "")
    return json_response(
        {
            "model_id": row["name"],
            "model_sha": row.get("digest"),
            "model_dtype": row.get("precision"),
            "model_type": {kind: {}},
            "version": row.get("version"),
        }
    )


@blueprint.get("/tei/<model>/health", summary="Is it served?", **documented(schema={"type": "object"}))
def health(path: ModelOfPath) -> ApiResponse:
    task_of(path.model)
    return json_response({})


def _parameters(body: Fields, ends: bool = False) -> dict[str, Any]:
    """What each of its routes takes beside the texts."""
    direction = body.take("truncation_direction", str, "right")
    if direction.lower() != "right":
        raise InvalidInput("must be right: texts are cut at their end", "/truncation_direction")
    parameters: dict[str, Any] = {"truncate": True} if body.take("truncate", bool, False) else {}
    if (prompt := body.take("prompt_name", str)) is not None:
        parameters["prompt_name"] = prompt
    if ends:
        body.end()
    return parameters


def _sequence(value: Any, place: str = "/inputs") -> Any:
    """A text, or a pair of texts as a task takes it."""
    if isinstance(value, str):
        return value
    check_texts(value, place)
    if len(value) > _PAIR:
        raise InvalidInput("must be a text, or two of them; a batch is a list of lists", place)
    return value[0] if len(value) == 1 else {"text": value[0], "text_pair": value[1]}


DIALECT = Dialect(blueprint, (PREFIX,), tell)
