"""The routes of an article summarizer that this API replaces: of its own server, flat as its MLflow back end had them,
and of its Lambda functions."""

from collections.abc import Mapping
from typing import Any

from model_api.errors import InvalidInput
from model_api.serving.text_scores import mean_scores
from model_api.web.protocols.dialect import (
    LIST,
    Dialect,
    Fields,
    Told,
    ask,
    check_texts,
    documented,
    model_of_request,
    plain,
    routes,
)
from model_api.web.requests import current_request, current_service
from model_api.web.responses import ApiResponse, json_response, model_response

blueprint = routes("earlier_systems", "earlier-systems")
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Its names of what it let callers choose. It sampled by default; here a temperature must be asked for.
_CONFIG = {"num_beans": "num_beams", "num_beams": "num_beams", "temperature": "temperature"}
_ARTICLE = {"article": {"article": "The bridge opens on Monday."}, "config": {"num_beans": 4}}
_ARTICLES = {"articles": {"articles": ["The bridge opens on Monday."]}, "config": {}}
_PAIRS = {"pairs": {"articles": ["The bridge opens on Monday."], "targets": ["It opens."]}, "config": {}}
_FLAT_ARTICLE = {"article": "The bridge opens on Monday."}
_TEXT, _TEXTS = {"type": "string"}, LIST
_FLAT = {"articles": ["The bridge opens on Monday."], "num_beans": 4}


def tell(problem: Mapping[str, Any]) -> Told:
    """As its framework told errors: places as a path, the body first."""
    status = int(problem["status"])
    places = problem.get("errors") or ()
    if status != 422 or not places:
        return Told(status, {"detail": problem["detail"]})
    return Told(
        422,
        {
            "detail": [
                {
                    "loc": ["body", *filter(None, place["pointer"].split("/"))],
                    "msg": place["detail"],
                    "type": "value_error",
                }
                for place in places
            ]
        },
    )


@blueprint.post("/article/summarize", summary="Summarise an article", **documented(_ARTICLE, schema=_TEXT))
def summarize() -> ApiResponse:
    return _one()


@blueprint.post("/online-predict", summary="Summarise an article", **documented(_FLAT_ARTICLE, schema=_TEXT))
def online_predict() -> ApiResponse:
    return _one()


@blueprint.post("/article/summarize_batch", summary="Summarise articles", **documented(_ARTICLES, schema=_TEXTS))
def summarize_batch() -> ApiResponse:
    return _many()


@blueprint.post("/batch-predict", summary="Summarise articles", **documented(_FLAT, schema=_TEXTS))
def batch_predict() -> ApiResponse:
    return _many()


@blueprint.post("/model/score", summary="ROUGE of summaries", **documented(_PAIRS, schema={"type": "object"}))
def score() -> ApiResponse:
    body = Fields(current_request().get_json())
    given, place = _nested(body, "pairs")
    articles, targets = given.texts("articles"), given.texts("targets")
    if given is not body:
        given.end()
    parameters = _config(body)
    if len(articles) != len(targets):
        raise InvalidInput(
            f"{len(articles)} articles and {len(targets)} targets; one each is wanted", f"{place}/targets"
        )
    found = ask(_model(), articles, parameters, f"{place}/articles")
    summaries = [str(one["text"]) for one in plain(found)]
    means = mean_scores(current_service().scores(targets, summaries, f"{place}/targets", current_request().context()))
    return model_response({name: means[name] for name in ROUGE}, found)


def _one() -> ApiResponse:
    body = Fields(current_request().get_json())
    given, place = _nested(body, "article")
    article = given.need("article", str)
    if given is not body:
        given.end()
    found = ask(_model(), [article], _config(body), f"{place}/article=")
    return model_response(plain(found)[0]["text"], found)


def _many() -> ApiResponse:
    body = Fields(current_request().get_json())
    given, place = _nested(body, "articles")
    articles = given.need("articles", list, called="a list of texts")
    if given is not body:
        given.end()
    parameters = _config(body)
    if not articles:
        return json_response([])
    check_texts(articles, f"{place}/articles")
    found = ask(_model(), articles, parameters, f"{place}/articles")
    return model_response([one["text"] for one in plain(found)], found)


def _nested(body: Fields, name: str) -> tuple[Fields, str]:
    """Its own server nested what was sent in an object of that name; the others had it flat."""
    if body.holds(name, dict):
        return Fields(body.take(name, dict), f"/{name}"), f"/{name}"
    return body, ""


def _config(body: Fields) -> dict[str, Any]:
    """Parameters of the task, from `config` or flat; the rest of the body must be gone by now."""
    given: dict[str, Any] = {**body.take("config", dict, {}), **body.rest()}
    found: dict[str, Any] = {}
    for name, value in given.items():
        ours = _CONFIG.get(name)
        if ours is None:
            raise InvalidInput(f"no such field; there are {', '.join(_CONFIG)}", f"/config/{name[:64]}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput("must be a number", f"/config/{name}")
        found[ours] = float(value) if ours == "temperature" else value
    return found


def _model() -> str:
    return model_of_request(lambda task: task.endswith("summarization"), "summarization model")


DIALECT = Dialect(blueprint, ("/article/", "/model/", "/online-predict", "/batch-predict"), tell)
