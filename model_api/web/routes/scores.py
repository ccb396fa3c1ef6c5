"""POST /score: how close predictions come to what was wanted."""

from collections.abc import Sequence
from typing import Any

from flask import current_app
from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import InvalidInput
from model_api.serving.calls import Answer, CallContext
from model_api.serving.text_scores import mean_scores, text_of
from model_api.settings import Settings
from model_api.web.openapi import answer, problems
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse, json_response, model_response
from model_api.web.schemas import ScoreAnswer, ScoreBody

blueprint = APIBlueprint("scoring", __name__, abp_tags=[Tag(name="models")])


@blueprint.post(
    "/score",
    summary="Score predictions against targets",
    description="ROUGE (F-measures) and BLEU, each between 0 and 1, per item and their means. Give `predictions`,"
    " or a `model` with `inputs` to predict first.",
    responses={
        **answer(ScoreAnswer, "The mean of each score, and the scores of each pair, in order."),
        **problems(400, 404, 413, 415, 422, 500, 503, 504),
    },
)
def score(body: ScoreBody) -> ApiResponse:
    context = current_request().context()
    _check_shape(body)
    if body.model is None:
        document = _scored(body.targets, body.predictions or [], "/predictions", context)
        return json_response(document)
    found = current_service().predict(checked_address(body.model), body.inputs or [], body.parameters, context)
    document = _scored(body.targets, _texts(found), "/targets", context)
    document |= {"model": found.model, "version": found.version, "digest": found.digest}
    return model_response({**document, "predictions": found.predictions}, found)


def _check_shape(body: ScoreBody) -> None:
    """Raise InvalidInput unless there is one prediction, or one input, per target."""
    if (body.predictions is None) == (body.model is None) or (body.inputs is None) != (body.model is None):
        raise InvalidInput("give either predictions, or model and inputs", "")
    if body.model is None and body.parameters:
        raise InvalidInput("parameters are the model's, and none is given", "/parameters")
    name, items = ("predictions", body.predictions) if body.model is None else ("inputs", body.inputs)
    assert items is not None
    if len(items) != len(body.targets):
        raise InvalidInput(f"{len(body.targets)} targets and {len(items)} {name}; one each is wanted", f"/{name}")
    settings: Settings = current_app.extensions["model_api_settings"]
    if len(items) > settings.max_inputs:
        raise InvalidInput(f"{len(items)} items, at most {settings.max_inputs} are accepted", "/targets")
    for kind, texts in (("targets", body.targets), ("predictions", body.predictions or [])):
        for index, text in enumerate(texts):
            if len(text) > settings.max_text_chars:
                raise InvalidInput(f"at most {settings.max_text_chars} characters are accepted", f"/{kind}/{index}")


def _texts(found: Answer) -> list[str]:
    texts = [text_of(prediction) for prediction in found.predictions]
    if None in texts:
        raise InvalidInput(f"{found.model} serves {found.task}, which predicts no texts", "/model")
    return [text for text in texts if text is not None]


def _scored(targets: Sequence[str], predictions: Sequence[str], place: str, context: CallContext) -> dict[str, Any]:
    items = current_service().scores(targets, predictions, place, context)
    return {"scores": mean_scores(items), "items": items}
