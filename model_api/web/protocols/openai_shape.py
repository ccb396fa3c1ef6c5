"""How OpenAI tells an error: any of our problems below /v1/, in its words."""

from typing import Any

import orjson

from model_api.serving.documents import dump
from model_api.web.responses import ApiResponse

PREFIX = "/v1/"
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_CODES = {
    "unknown-model": "model_not_found",
    "queue-full": "rate_limit_exceeded",
    "too-many-requests": "rate_limit_exceeded",
}


def shaped(response: ApiResponse) -> ApiResponse:
    """The same answer as OpenAI's client reads it; headers (Retry-After, ...) stay. 422 is 400 there."""
    problem = orjson.loads(response.get_data())
    response.status_code = 400 if problem["status"] == 422 else problem["status"]
    response.set_data(dump({"error": error_of(problem)}))
    response.content_type = "application/json"
    return response


def error_of(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem document as OpenAI's error object."""
    places = problem.get("errors") or [{"pointer": ""}]
    slug = str(problem.get("type", "")).rpartition("/")[2]
    status = int(problem.get("status", 500))
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {
        "message": str(problem.get("detail", "")),
        "type": kind,
        "param": places[0]["pointer"].removeprefix("/").replace("/", ".") or None,
        "code": _CODES.get(slug, slug.replace("-", "_") or None),
    }
