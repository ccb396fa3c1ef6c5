"""GET /: a greeting as JSON, a page for browsers."""

from flask_openapi3 import APIBlueprint, Tag

from model_api.web import schemas
from model_api.web.openapi import answer
from model_api.web.pages.render import page, wants_html
from model_api.web.responses import ApiResponse, json_response

blueprint = APIBlueprint("home", __name__, abp_tags=[Tag(name="pages")])


@blueprint.get("/", summary="The index", responses=answer(schemas.Index, "It works. A page where Accept names HTML."))
def index() -> ApiResponse:
    if wants_html():
        response = page("home.html")
    else:
        response = json_response({"type": "index", "context": {"message": "Success!"}})
    response.vary.add("Accept")
    return response
