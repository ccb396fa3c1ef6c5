"""Pages from templates, and the files beside them. Nothing here makes a browser ask another host."""

from pathlib import Path
from typing import Any

import flask
from flask_openapi3 import APIBlueprint

from model_api.web.requests import current_request
from model_api.web.responses import ApiResponse, file_response

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

blueprint = APIBlueprint("static", __name__)


def page(template: str, policy: str = POLICY, **shown: Any) -> ApiResponse:
    """The page of `template` in templates/; what is shown in it is escaped."""
    response = ApiResponse(flask.render_template(template, **shown), content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def wants_html() -> bool:
    """Whether Accept names text/html itself, and no less gladly than JSON."""
    accepted = current_request().accept_mimetypes
    named = any(kind.lower() == "text/html" and quality > 0 for kind, quality in accepted)
    return named and accepted["text/html"] >= accepted["application/json"]


@blueprint.route("/static/<name>")
def static_file(name: str) -> ApiResponse:
    if name not in {path.name for path in STATIC.iterdir()}:
        flask.abort(404)
    return file_response(STATIC / name)
