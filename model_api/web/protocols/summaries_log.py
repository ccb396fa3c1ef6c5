"""The history of the article summarizer, an earlier system, on its own routes: what its page and its batch job call.

What it got wrong is put right: a row counts as logged when it is kept, and initialising takes nothing away, however
often it is done.
"""

import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from flask import request
from flask_openapi3 import APIBlueprint
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_api.errors import InvalidInput
from model_api.history.documents import document
from model_api.history.entries import Entry, rows_of
from model_api.history.periods import DEFAULT_SPAN, Span, span_of, zone_of
from model_api.web.history_input import check_cell, checked_name, filter_of
from model_api.web.problems import InvalidBody, pointer
from model_api.web.requests import current_history, current_request
from model_api.web.responses import ApiResponse, json_response

if TYPE_CHECKING:
    from model_api.history.store import Store

blueprint = APIBlueprint("summaries_log", __name__)
Shape = TypeVar("Shape", bound=BaseModel)
MAX_PAIRS = 100
MAX_BATCH = 1000
SCORES = {"rouge1": "score_rouge1", "rouge2": "score_rouge2", "rougeL": "score_rougeL", "bleu": "score_blue"}


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class OnlineBody(_Shape):
    """One summary. `send_arize` named a service that is no more; it is taken, and changes nothing."""

    article: str
    summ: str
    target: str | None = None
    model_source: str = Field("Other", min_length=1, max_length=64)
    send_arize: bool = False


class BatchBody(_Shape):
    """Several, of one source."""

    articles: list[str] = Field(max_length=MAX_BATCH)
    summs: list[str]
    targets: list[str] | None = None
    model_source: str = Field("Other", min_length=1, max_length=64)
    send_arize: bool = False


class PairsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    num_sample: int = Field(10, ge=1, le=MAX_PAIRS)


class ListQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")
    num_record: int = Field(10, ge=1, le=1000)


class SpanQuery(BaseModel):
    """From `last_ts` to `cur_ts`."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = None
    source: str | None = None
    cur_ts: str | None = Field(None, max_length=64)
    last_ts: str | None = Field(None, max_length=64)
    freq: Literal["Hour", "Day", "Month"] = "Day"


def _read(shape: type[Shape], given: Any) -> Shape:
    """Raises InvalidBody."""
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise InvalidBody([(pointer(one["loc"]), one["msg"]) for one in found]) from None


@blueprint.route("/db/init", methods=["POST"])
def initialise() -> ApiResponse:
    """The schema is made by whoever needs it first; so are the samples, here."""
    return json_response({"message": "ready", "samples": _store().add_samples()})


@blueprint.route("/log/online", methods=["POST"])
def log_online() -> ApiResponse:
    body = _read(OnlineBody, current_request().get_json())
    references = None if body.target is None else [body.target]
    return _logged(
        [body.article], [body.summ], references, body.model_source, ("article", "summ", "target"), plural=False
    )


@blueprint.route("/log/batch", methods=["POST"])
def log_batch() -> ApiResponse:
    body = _read(BatchBody, current_request().get_json())
    names = ("articles", "summs", "targets")
    return _logged(body.articles, body.summs, body.targets, body.model_source, names, plural=True)


def _logged(
    articles: list[str],
    summaries: list[str],
    targets: list[str] | None,
    source: str,
    names: tuple[str, ...],
    *,
    plural: bool,
) -> ApiResponse:
    """Keep them; the answer is how many were."""
    for name, texts in zip(names, (articles, summaries, targets), strict=True):
        if texts is not None and len(texts) != len(articles):
            raise InvalidInput(f"{len(articles)} articles and {len(texts)} {name}; one each is wanted", f"/{name}")
        for index, text in enumerate(texts or ()):
            check_cell(text, f"/{name}/{index}" if plural else f"/{name}")
    filter_of(SpanQuery())  # a key for some models logs for those, by POST /log
    history = current_history()
    made = Entry(
        created_ms=time.time_ns() // 1_000_000,
        source=checked_name(source, "/model_source"),
        model="",
        version=None,
        digest=None,
        task="summarization",
        inputs=articles,
        predictions=[{"text": summary} for summary in summaries],
        references=targets,
        caller=current_request().caller.id or None,
    )
    rows = rows_of(made, history.keeping)
    return json_response(len(history.add(rows)) if rows else 0)


@blueprint.route("/sample/pair")
def sample_pair() -> ApiResponse:
    return json_response(_pairs(1)[0])


@blueprint.route("/sample/pairs")
def sample_pairs() -> ApiResponse:
    return json_response(_pairs(_read(PairsQuery, request.args.to_dict()).num_sample))


def _pairs(n: int) -> list[dict[str, str]]:
    """By chance; the same ones again where there are fewer."""
    found = _store().sample_pairs()
    chosen = random.sample(found, min(n, len(found)))
    return [{"article": article, "target": summary} for article, summary in chosen]


@blueprint.route("/history/list")
def listed() -> ApiResponse:
    from model_api.history import queries

    query = _read(ListQuery, request.args.to_dict())
    rows = queries.page(_store(), filter_of(SpanQuery()), None, None, query.num_record)
    return json_response([_record(document(row)) for row in rows])


@blueprint.route("/history/count")
def counted() -> ApiResponse:
    from model_api.history import queries

    query = _read(SpanQuery, request.args.to_dict())
    by = query.freq.lower()
    found = queries.counts(_store(), filter_of(query), _span(query), by, zone_of(None))
    return json_response(
        [
            {"prediction_ts": one["start"], "model_source": source, "count": n}
            for one in found
            for source, n in sorted(one["sources"].items())
        ]
    )


@blueprint.route("/history/score")
def scored() -> ApiResponse:
    from model_api.history import queries

    query = _read(SpanQuery, request.args.to_dict())
    found = queries.statistics(_store(), filter_of(query), _span(query))
    return json_response(
        {
            name: {"min": one["min"], "avg": one["mean"], "max": one["max"], "std": one["std"], "count": one["n"]}
            for measure, name in SCORES.items()
            if (one := found.get(measure)) is not None
        }
    )


def _span(query: SpanQuery) -> Span:
    default: timedelta = DEFAULT_SPAN[query.freq.lower()]
    try:
        return span_of(query.last_ts, query.cur_ts, zone_of(None), default, time.time())
    except InvalidInput as error:
        names = {"/since": "/last_ts", "/until": "/cur_ts"}
        message = str(error).replace("since must be before until", "last_ts must be before cur_ts")
        raise InvalidInput(message, names.get(error.pointer, error.pointer)) from None


def _record(shown: dict[str, Any]) -> dict[str, Any]:
    """By the names of that system's table."""
    scores = shown["scores"] or {}
    prediction = shown["prediction"]
    return {
        "prediction_id": shown["id"],
        "prediction_ts": shown["created"],
        "document": shown["input"],
        "summary": prediction.get("text", prediction) if isinstance(prediction, dict) else prediction,
        "reference_summary": shown["reference"],
        "model_source": shown["source"],
        **{name: scores.get(measure) for measure, name in SCORES.items()},
    }


def _store() -> "Store":
    return current_history().store
