"""The OpenAPI document, and what the types of problems mean."""

from functools import cache, partial

import flask
from flask import current_app
from flask_openapi3 import APIBlueprint, OpenAPI, Tag

from model_api.settings import Settings
from model_api.web.openapi import build_document, text
from model_api.web.problems import ROWS
from model_api.web.responses import ApiResponse, json_response
from model_api.web.security.scopes import OPERATE, WITHOUT_KEY, need_of

blueprint = APIBlueprint("documents", __name__, abp_tags=[Tag(name="pages")])


@blueprint.get("/openapi.json", summary="This document", responses=text("application/json", "OpenAPI 3.1."))
def openapi_json() -> ApiResponse:
    return ApiResponse(current_app.extensions["model_api_document"](), mimetype="application/json")


@blueprint.route("/problems/<slug>")
def show_problem(slug: str) -> ApiResponse:
    """What a problem document's `type` leads to."""
    found = next(((kind, row) for kind, row in ROWS.items() if row.slug == slug), None)
    if found is None:
        flask.abort(404)
    kind, row = found
    meaning = (kind.__doc__ or "").partition("\n")[0]
    return json_response({"type": slug, "title": row.title, "status": row.status, "meaning": meaning})


def register(app: OpenAPI) -> None:
    app.register_api(blueprint)
    needs_key = partial(_needs_key, app.extensions["model_api_settings"])
    app.extensions["model_api_document"] = cache(partial(build_document, app, needs_key))  # made when first asked for


def _needs_key(settings: Settings, method: str, path: str) -> bool | None:
    need = need_of(method.upper(), path.replace("{", "<").replace("}", ">"), settings.public)
    if need in WITHOUT_KEY:
        return False
    return True if settings.auth == "required" or need == OPERATE else None
