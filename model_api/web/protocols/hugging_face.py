"""Hugging Face's inference API: what huggingface_hub's InferenceClient posts to /hf/<model>, given as its model."""

from collections.abc import Mapping
from typing import Any

from model_api.errors import InvalidInput
from model_api.web.protocols.dialect import (
    Dialect,
    Fields,
    ModelOfPath,
    Told,
    ask,
    check_texts,
    documented,
    plain,
    routes,
    task_of,
    told_detail,
)
from model_api.web.protocols.tei import compare
from model_api.web.requests import current_request
from model_api.web.responses import ApiResponse, model_response

PREFIX = "/hf/"
blueprint = routes("hugging_face", "hugging-face")


def tell(problem: Mapping[str, Any]) -> Told:
    status = int(problem["status"])
    body: dict[str, Any] = {"error": told_detail(problem)}
    if str(problem["type"]).endswith("/model-not-ready"):
        body["estimated_time"] = 5.0
    return Told(400 if status == 422 else status, body)


@blueprint.post(
    "/hf/<model>",
    summary="Ask a model, whatever its task",
    **documented({"inputs": "A sentence.", "parameters": {}}, "As the model's task has it there."),
)
def infer(path: ModelOfPath) -> ApiResponse:
    body = Fields(current_request().get_json())
    inputs = body.need("inputs", (str, list, dict), called="a text, a list of texts, or an object")
    parameters = _parameters(body)
    task = task_of(path.model)
    if task in ("embedding", "reranking") and isinstance(inputs, dict):
        return _compare(path.model, task, inputs, parameters)
    if task == "reranking":
        raise InvalidInput("must be an object of source_sentence and sentences", "/inputs")
    if task == "text-classification":
        return _classify(path.model, inputs, parameters)
    alone = not isinstance(inputs, list)
    if not alone:
        check_texts(inputs, "/inputs")
    found = ask(path.model, [inputs] if alone else inputs, parameters, "/inputs=" if alone else "/inputs")
    if task == "embedding":
        return model_response(found.predictions[0] if alone else found.predictions, found)
    return model_response([_generated(task, one) for one in plain(found)], found)


def _parameters(body: Fields) -> dict[str, Any]:
    """Ours of theirs. Raises InvalidInput for those that would change the answer, and can't."""
    given = Fields(body.take("parameters", dict, {}), "/parameters")
    body.take("options", dict)  # whether to wait for a model, and to use a cache: theirs alone
    found = {**given.rest(), **body.rest()}
    found |= found.pop("generate_parameters", None) or {}
    direction = str(found.pop("truncation_direction", "right")).lower()
    if direction != "right":
        raise InvalidInput("must be right: texts are cut at their end", "/parameters/truncation_direction")
    if found.pop("truncation", None) not in (None, "do_not_truncate"):
        found["truncate"] = True
    if found.pop("function_to_apply", None) is not None:
        raise InvalidInput("scores are what the model's own activation makes of them", "/parameters/function_to_apply")
    found.pop("clean_up_tokenization_spaces", None)
    if found.get("truncate") is False:
        del found["truncate"]
    return found


def _compare(model: str, task: str, inputs: dict[str, Any], parameters: Mapping[str, Any]) -> ApiResponse:
    """Sentences with one sentence: similarities, or a reranker's scores."""
    fields = Fields(inputs, "/inputs")
    source, sentences = fields.need("source_sentence", str), fields.texts("sentences")
    fields.end()
    if task == "embedding":
        return compare(model, source, sentences, parameters)
    names = {"query": "source_sentence", "texts": "sentences"}
    try:
        found = ask(model, [{"query": source, "texts": sentences}], parameters, "/inputs=")
    except InvalidInput as error:
        pointer = error.pointer
        for ours, theirs in names.items():
            pointer = pointer.replace(f"/inputs/{ours}", f"/inputs/{theirs}", 1)
        raise InvalidInput(str(error), pointer) from error
    return model_response(plain(found)[0]["scores"], found)


def _classify(model: str, inputs: Any, parameters: dict[str, Any]) -> ApiResponse:
    """A list of labels per input, best first; a text alone counts as a list of one there."""
    alone = not isinstance(inputs, list)
    if "top_k" not in parameters:
        parameters["all_labels"] = True
    found = ask(model, [inputs] if alone else inputs, parameters, "/inputs=" if alone else "/inputs")
    return model_response([one["labels"] for one in plain(found)], found)


def _generated(task: str, prediction: Any) -> Any:
    if not isinstance(prediction, dict) or "text" not in prediction:
        return prediction
    name = (
        "summary_text" if "summarization" in task else "translation_text" if task == "translation" else "generated_text"
    )
    return {name: prediction["text"]}


DIALECT = Dialect(blueprint, (PREFIX,), tell)
