"""GET /docs: every route, to try out in Swagger UI."""

from pathlib import Path

import flask
import flask_openapi3_swagger
from flask_openapi3 import APIBlueprint, Tag

from model_api.web.openapi import text
from model_api.web.pages.render import page
from model_api.web.responses import ApiResponse, file_response

blueprint = APIBlueprint("docs", __name__, abp_tags=[Tag(name="pages")])
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


@blueprint.get("/docs", summary="Every route, to try out", responses=text("text/html", "Swagger UI."))
def docs() -> ApiResponse:
    return page("docs.html", POLICY)


@blueprint.route("/docs/<name>")
def docs_asset(name: str) -> ApiResponse:
    if name not in ASSETS:
        flask.abort(404)
    return file_response(ASSETS[name])
