"""POST /score: how close predictions come to what was wanted."""

from dataclasses import replace

from flask import current_app
from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import InvalidInput
from model_api.jobs.work import SCORE
from model_api.serving.documents import predicted_scores_document, predicted_texts, scores_document
from model_api.settings import Settings
from model_api.web.later import now_or_later
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
    check_shape(body)
    if body.model is not None:
        checked_address(body.model)
    return now_or_later(SCORE, vars(body), lambda: _score(body))


def _score(body: ScoreBody) -> ApiResponse:
    context = current_request().context()
    service = current_service()
    if body.model is None:
        items = service.scores(body.targets, body.predictions or [], "/predictions", context)
        return json_response(scores_document(items))
    noted = replace(context, origin=replace(context.origin, references=body.targets))
    found = service.predict(body.model, body.inputs or [], body.parameters, noted)
    items = service.scores(body.targets, predicted_texts(found), "/targets", context)
    return model_response(predicted_scores_document(items, found), found)


def check_shape(body: ScoreBody) -> None:
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
