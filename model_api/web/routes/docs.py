"""The index, the OpenAPI document and the pages for people. Nothing here makes a browser ask another host."""

from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import flask
import flask_openapi3_swagger
from flask import current_app
from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from model_api.web import schemas
from model_api.web.openapi import answer, problem, text
from model_api.web.problems import ROWS
from model_api.web.requests import current_request
from model_api.web.responses import ApiResponse, dump, json_response

blueprint = APIBlueprint("pages", __name__, abp_tags=[Tag(name="pages")])
SWAGGER = Path(flask_openapi3_swagger.__file__).parent / "templates" / "swagger"
ASSETS = {
    "swagger-ui.css": SWAGGER / "css" / "swagger-ui.css",
    "swagger-ui-bundle.js": SWAGGER / "js" / "swagger-ui-bundle.js",
    "swagger.svg": SWAGGER / "images" / "swagger.svg",
}
# Swagger UI sets styles from its script and keeps its icons in data: URLs; scripts come from files alone.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
INDEX_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Model API</title><meta name="viewport" content="width=device-width">
<link rel="icon" href="docs/swagger.svg">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}
pre{background:#f3f3f3;padding:1rem;overflow-x:auto}</style></head>
<body>
<h1>Model API</h1>
<p>Models served over HTTP. Ask one:</p>
<pre>curl -X POST -H 'Content-Type: application/json' \\
  -d '{"target": "a quick test", "texts": ["a fast check", "a slow boat"]}' \\
  HOST/sim</pre>
<ul>
<li><a href="models">models</a>: what is published and what serves</li>
<li><a href="docs">docs</a>: every route, to try out; <a href="openapi.json">openapi.json</a></li>
<li><a href="readyz">readyz</a>, <a href="healthz">healthz</a>, <a href="mount_check">mount_check</a>,
<a href="metrics">metrics</a></li>
</ul>
</body>
</html>
"""
DOCS_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Model API</title><meta name="viewport" content="width=device-width">
<link rel="icon" href="docs/swagger.svg"><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START_SCRIPT = """window.ui = SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null, tryItOutEnabled: true,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout",
});
"""


def _html(page: str) -> ApiResponse:
    response = ApiResponse(page, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _wants_html() -> bool:
    """Whether Accept names text/html itself, and no less gladly than JSON."""
    accepted = current_request().accept_mimetypes
    named = any(kind.lower() == "text/html" and quality > 0 for kind, quality in accepted)
    return named and accepted["text/html"] >= accepted["application/json"]


@blueprint.get("/", summary="The index", responses=answer(schemas.Index, "It works. A page where Accept names HTML."))
def index() -> ApiResponse:
    if _wants_html():
        response = _html(INDEX_PAGE)
    else:
        response = json_response({"type": "index", "context": {"message": "Success!"}})
    response.vary.add("Accept")
    return response


@blueprint.get("/openapi.json", summary="This document", responses=text("application/json", "OpenAPI 3.1."))
def openapi_json() -> ApiResponse:
    return ApiResponse(current_app.extensions["model_api_document"](), mimetype="application/json")


@blueprint.get("/docs", summary="Every route, to try out", responses=text("text/html", "Swagger UI."))
def docs() -> ApiResponse:
    return _html(DOCS_PAGE)


@blueprint.route("/docs/<name>")
def docs_asset(name: str) -> ApiResponse:
    if name == "start.js":
        response = ApiResponse(START_SCRIPT, mimetype="text/javascript")
    elif name in ASSETS:
        response = cast(ApiResponse, flask.send_file(ASSETS[name], conditional=True))
    else:
        flask.abort(404)
    response.headers["Cache-Control"] = "public, max-age=3600"
    return response


@blueprint.route("/problems/<slug>")
def show_problem(slug: str) -> ApiResponse:
    """What a problem document's `type` leads to."""
    found = next(((kind, row) for kind, row in ROWS.items() if row.slug == slug), None)
    if found is None:
        flask.abort(404)
    kind, row = found
    meaning = (kind.__doc__ or "").partition("\n")[0]
    return json_response({"type": slug, "title": row.title, "status": row.status, "meaning": meaning})


def _document(app: OpenAPI) -> bytes:
    """The OpenAPI document: routes as flask-openapi3 collected them, schemas as pydantic itself writes them."""
    document: dict[str, Any] = dict(app.api_doc)
    kinds = [kind for kind in vars(schemas).values() if isinstance(kind, type) and issubclass(kind, BaseModel)]
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (kind, "validation" if issubclass(kind, schemas.Body) else "serialization")
        for kind in kinds
        if kind not in (BaseModel, schemas.Body, schemas.ModelPath, schemas.CacheQuery)
    ]
    _, collected = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    document["components"] = {"schemas": collected["$defs"]}
    for operations in document["paths"].values():
        for operation in operations.values():
            responses = operation["responses"]
            if "application/json" in responses.get("422", {}).get("content", {}):
                del responses["422"]  # flask-openapi3 adds its own form of it to routes that have none
            responses["default"] = problem("Any other error.")
    return dump(document)


def register(app: OpenAPI) -> None:
    app.register_api(blueprint)
    app.extensions["model_api_document"] = cache(partial(_document, app))  # made when first asked for
