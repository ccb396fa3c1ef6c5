"""The history: predictions that were kept, and what they add up to."""

import time
from datetime import timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from flask import current_app
from flask_openapi3 import APIBlueprint, Tag

from model_api.errors import InvalidInput, UnknownPrediction
from model_api.history.documents import cursor, document, read_cursor
from model_api.history.entries import Entry, rows_of
from model_api.history.periods import DAY, DEFAULT_SPAN, Span, is_exact, span_of, zone_of
from model_api.settings import Settings
from model_api.web import history_schemas as shapes
from model_api.web.history_input import allow, check_cell, checked_name, filter_of
from model_api.web.openapi import answer, problems
from model_api.web.requests import current_history, current_request
from model_api.web.responses import ApiResponse, json_response

if TYPE_CHECKING:
    pass

blueprint = APIBlueprint("history", __name__, abp_tags=[Tag(name="history")])
A_WEEK = timedelta(days=7)
MAX_TOLD = 19  # digits of an id


@blueprint.post(
    "/log",
    summary="Keep predictions that were made elsewhere",
    description="Answered when they are kept, and not before.",
    responses={
        **answer(shapes.Logged, "They are kept.", status=201),
        **problems(400, 413, 415, 422, 503),
    },
)
def log(body: shapes.LogBody) -> ApiResponse:
    origin = current_request().call_origin()
    allow(body.model)
    settings: Settings = current_app.extensions["model_api_settings"]
    if len(body.items) > settings.max_inputs:
        raise InvalidInput(f"{len(body.items)} items, at most {settings.max_inputs} are accepted", "/items")
    source = "log" if origin.source == "api" else origin.source
    source = source if body.source is None else checked_name(body.source, "/source")
    model = "" if body.model is None else checked_name(body.model, "/model")
    history, now_ms = current_history(), time.time_ns() // 1_000_000
    rows = []
    for index, item in enumerate(body.items):
        place = f"/items/{index}"
        for name in ("input", "prediction", "reference"):
            check_cell(getattr(item, name), f"{place}/{name}")
        if item.prediction is None:
            raise InvalidInput("must be what was predicted, not null", f"{place}/prediction")
        made = Entry(
            created_ms=now_ms,
            source=source,
            model=model,
            version=None,
            digest=None,
            task=None,
            inputs=[item.input],
            predictions=[item.prediction],
            user=None if item.user is None else checked_name(item.user, f"{place}/user"),
            topic=None if item.topic is None else checked_name(item.topic, f"{place}/topic"),
            references=[item.reference],
            scores=[item.scores.model_dump(exclude_none=True) if item.scores else {}],
            caller=origin.caller,
        )
        rows += rows_of(made, history.keeping)
    ids = history.add(rows)
    return json_response({"logged": len(ids), "ids": [str(one) for one in ids]}, 201)


@blueprint.get(
    "/history",
    summary="List predictions",
    responses={**answer(shapes.PredictionPage, "A page of predictions, newest first."), **problems(403, 422, 503)},
)
def page(query: shapes.HistoryQuery) -> ApiResponse:
    from model_api.history import queries

    wanted, zone = filter_of(query), zone_of(query.zone)
    span = _span(query, zone, timedelta(days=36500)) if query.since or query.until else None
    listed = f"{wanted} {query.since} {query.until} {query.zone}"
    after = None if query.after is None else read_cursor(query.after, listed)
    found = queries.page(current_history().store, wanted, span, after, query.limit)
    more = len(found) == query.limit
    shown = [document(row) for row in found]
    return json_response({"predictions": shown, "next": cursor(found[-1]["id"], listed) if more else None})


@blueprint.get(
    "/history/counts",
    summary="Predictions by the hour, day or month, and by source",
    responses={**answer(shapes.CountsAnswer, "How many there were."), **problems(403, 422, 503)},
)
def counts(query: shapes.CountsQuery) -> ApiResponse:
    from model_api.history import queries

    wanted, zone = filter_of(query), zone_of(query.zone)
    span = _span(query, zone, DEFAULT_SPAN[query.by])
    found = queries.counts(current_history().store, wanted, span, query.by, zone)
    return json_response(
        {
            "by": query.by,
            "zone": query.zone or "UTC",
            **_told(span),
            "exact": query.by == "hour" or is_exact(span, zone),
            "counts": found,
        }
    )


@blueprint.get(
    "/history/statistics",
    summary="What predictions measure, their labels, and how both have shifted",
    responses={**answer(shapes.StatisticsAnswer, "Of the last seven days, by default."), **problems(403, 422, 503)},
)
def statistics(query: shapes.StatisticsQuery) -> ApiResponse:
    from model_api.history import queries

    wanted, zone = filter_of(query), zone_of(query.zone)
    span, store = _span(query, zone, A_WEEK), current_history().store
    found: dict[str, Any] = {
        **_told(span),
        "measures": queries.statistics(store, wanted, span),
        "labels": queries.labels(store, wanted, span),
        "shift": queries.shifts(store, wanted, span),
    }
    if query.by is not None:
        found["series"] = queries.series(store, wanted, span, query.by, zone, query.measure)
    return json_response(found)


@blueprint.get(
    "/history/labels",
    summary="Labels by user or by topic",
    responses={**answer(shapes.LabelsAnswer, "Of the last 31 days, by default."), **problems(403, 422, 503)},
)
def labels(query: shapes.LabelsQuery) -> ApiResponse:
    from model_api.history import queries

    wanted, zone = filter_of(query), zone_of(query.zone)
    if wanted.source is not None:
        raise InvalidInput("labels of users and topics aren't kept by source", "/source")
    span = _span(query, zone, DEFAULT_SPAN[DAY])
    found = queries.groups(current_history().store, query.by, wanted.model, span, query.limit)
    return json_response({"by": query.by, **_told(span), "groups": found})


@blueprint.get(
    "/history/samples",
    summary="Some predictions, by chance",
    responses={**answer(shapes.SamplesAnswer, "At most `n`, each once."), **problems(403, 422, 503)},
)
def samples(query: shapes.SamplesQuery) -> ApiResponse:
    from model_api.history import queries

    if query.since or query.until:
        raise InvalidInput("samples are drawn from all that is kept", "/since" if query.since else "/until")
    found = queries.samples(current_history().store, filter_of(query), query.n)
    return json_response({"predictions": [document(row) for row in found]})


@blueprint.get(
    "/history/<id>",
    summary="One prediction",
    responses={**answer(shapes.KeptPrediction, "The prediction."), **problems(403, 404, 503)},
)
def show(path: shapes.PredictionPath) -> ApiResponse:
    return json_response(document(_one(path.id)))


@blueprint.patch(
    "/history/<id>",
    summary="Say what would have been right",
    responses={
        **answer(shapes.KeptPrediction, "The prediction; a text is scored within some seconds."),
        **problems(400, 403, 404, 413, 415, 422, 503),
    },
)
def refer(path: shapes.PredictionPath, body: shapes.ReferenceBody) -> ApiResponse:
    check_cell(body.reference, "/reference")
    found, history = _one(path.id), current_history()
    history.store.refer(found["id"], body.reference, history.keeping)
    return json_response(document(_one(path.id)))


def _one(text: str) -> Any:
    """Raises UnknownPrediction, Forbidden."""
    from model_api.history import queries

    if not (text.isascii() and text.isdigit() and len(text) <= MAX_TOLD) or int(text) >= 2**63:
        raise UnknownPrediction(f"no prediction {text[:32]!r} is in the history")
    found = queries.one(current_history().store, int(text))
    allow(found["model"] or None)
    return found


def _span(query: Any, zone: tzinfo, default: timedelta) -> Span:
    return span_of(query.since, query.until, zone, default, time.time())


def _told(span: Span) -> dict[str, str]:
    return {"since": span.since.isoformat(), "until": span.until.isoformat()}
