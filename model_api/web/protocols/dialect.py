"""What other people's interfaces have in common. A further one is a module with a DIALECT, and its line in spoken.py.

A dialect has routes of its own, and tells all of our problems below its paths in its own words. Its routes read a body
with `Fields`, ask with `ask`, and answer with `model_response`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from flask import current_app
from flask_openapi3 import APIBlueprint, Tag
from pydantic import BaseModel, Field

from model_api.errors import InvalidInput, ModelNotReady
from model_api.serving.calls import Answer
from model_api.serving.documents import dump
from model_api.settings import Settings
from model_api.web.requests import checked_address, current_request, current_service
from model_api.web.responses import ApiResponse

SERVING = "serving"
LIST: Mapping[str, Any] = {"type": "array", "items": {}}  # as a schema


@dataclass(frozen=True)
class Told:
    """A problem as a dialect tells it."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dialect:
    """`tell` gets a problem document; it holds below each of `prefixes`. Without a blueprint the routes are another
    dialect's."""

    blueprint: APIBlueprint | None
    prefixes: tuple[str, ...]
    tell: Callable[[Mapping[str, Any]], Told]

    def shaped(self, response: ApiResponse) -> ApiResponse:
        """The same answer in the dialect's words; other headers (Retry-After, ...) stay."""
        told = self.tell(orjson.loads(response.get_data()))
        response.status_code = told.status
        response.set_data(dump(told.body))
        response.content_type = "application/json"
        response.headers.update(told.headers)
        return response


def routes(name: str, tag: str) -> APIBlueprint:
    """A dialect's blueprint. The OpenAPI document has its operations under `tag`, called by `name` and the function."""

    def operation_id(*, name: str, bp_name: str, **_: str) -> str:
        return f"{bp_name}_{name}"

    return APIBlueprint(name, __name__, abp_tags=[Tag(name=tag)], operation_id_callback=operation_id)


def told_detail(problem: Mapping[str, Any]) -> str:
    """A problem's detail with the place that it is about, for protocols that have no field for that."""
    places = [place["pointer"] for place in problem.get("errors") or () if place["pointer"]]
    return f"{problem['detail']} ({places[0]})" if places else str(problem["detail"])


class ModelOfPath(BaseModel):
    model: str = Field(description="`name`, `name@version` or `name@canary`")


class VersionOfPath(ModelOfPath):
    version: str = Field(description="The model's version.")


def documented(
    example: Any = None, answer: str = "The answer.", schema: Any = None, media_type: str = "application/json"
) -> dict[str, Any]:
    """For a blueprint's `post` or `get`: how the OpenAPI document shows a route."""
    answers = {media_type: {"schema": schema or {}}}
    errors = {"application/json": {"schema": {"type": "object"}}}
    shown: dict[str, Any] = {
        "responses": {
            200: {"description": answer, "content": answers},
            "default": {"description": "An error, as this protocol tells it.", "content": errors},
        }
    }
    if example is not None:
        content = {"application/json": {"schema": {"type": "object"}, "example": example}}
        shown["openapi_extensions"] = {"requestBody": {"required": True, "content": content}}
    return shown


class Fields:
    """A JSON object of which every field is named: each is taken once, and what nobody took is refused."""

    def __init__(self, given: Any, place: str = "") -> None:
        """Raises InvalidInput."""
        if not isinstance(given, dict):
            raise InvalidInput("must be an object", place)
        self._left = dict(given)
        self._place = place

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def holds(self, name: str, kind: type) -> bool:
        """Whether a field is there and of that type."""
        return isinstance(self._left.get(name), kind)

    def take(self, name: str, kind: type | tuple[type, ...], default: Any = None, *, called: str = "") -> Any:
        """The value of a field, `default` where it isn't given or null. Raises InvalidInput for another type."""
        value = self._left.pop(name, None)
        if value is None:
            return default
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # A bool is an int to Python, and to nobody else.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise InvalidInput(f"must be {called or _NAMES.get(kinds[0], kinds[0].__name__)}", f"{self._place}/{name}")
        return value

    def need(self, name: str, kind: type | tuple[type, ...], *, called: str = "") -> Any:
        """As `take`, of a field that must be there."""
        value = self.take(name, kind, called=called)
        if value is None:
            raise InvalidInput("is missing", f"{self._place}/{name}")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts, one at least."""
        found: list[str] = self.need(name, list, called="a list of texts")
        check_texts(found, f"{self._place}/{name}")
        return found

    def rest(self) -> dict[str, Any]:
        """All that is left."""
        left, self._left = self._left, {}
        return {name: value for name, value in left.items() if value is not None}

    def end(self) -> None:
        """Raises InvalidInput for a field that nobody took."""
        for name in self._left:
            raise InvalidInput("no such field", f"{self._place}/{name[:64]}")


_NAMES: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


def check_texts(values: Sequence[Any], place: str) -> None:
    """Raises InvalidInput that says which isn't a text."""
    if not values:
        raise InvalidInput("must hold one text at least", place)
    for i, value in enumerate(values):
        if isinstance(value, int | list) and not isinstance(value, bool):
            # They'd be numbers of another vocabulary than the model's: served, the answer would be nonsense.
            raise InvalidInput("looks like token ids, which mean something else to each model: send texts", place)
        if not isinstance(value, str):
            raise InvalidInput("must be a text", f"{place}/{i}")


def ask(model: str, inputs: Sequence[Any], parameters: Mapping[str, Any], place: str = "/inputs") -> Answer:
    """Predictions for `inputs`, which stand at `place` of the body; with `place` ending in "=", one input stands there.
    Raises what the service raises, with pointers into the caller's body."""
    try:
        found = current_service().predict(checked_address(model), inputs, parameters, current_request().context())
    except InvalidInput as error:
        inside = "/inputs/0" if place.endswith("=") else "/inputs"
        pointer = error.pointer
        if pointer == inside or pointer.startswith(inside + "/"):
            pointer = place.removesuffix("=") + pointer[len(inside) :]
        raise InvalidInput(str(error), pointer) from error
    current_request().answer = found
    return found


def plain(found: Answer) -> list[Any]:
    """Predictions as Python has them: what comes from the cache is JSON already."""
    return [orjson.loads(dump(one)) if isinstance(one, orjson.Fragment) else one for one in found.predictions]


def task_of(model: str) -> str:
    """The task that a model serves. Raises UnknownModel, or ModelNotReady as long as nobody knows."""
    name = checked_address(model).partition("@")[0]
    task = current_service().model(name).get("task")
    if task is None:
        raise ModelNotReady(name, "its task isn't known yet")
    return str(task)


def need_task(model: str, task: str) -> None:
    """Raises InvalidInput for a model of another task."""
    found = task_of(model)
    if found != task:
        raise InvalidInput(f"{model} serves {found}, not {task}", "")


def model_of_request(fits: Callable[[str], bool] = lambda task: True, what: str = "model") -> str:
    """Of a route whose address names none: the header X-Model, else the setting, else the only model that fits.

    Raises UnknownModel, ModelNotReady or InvalidInput.
    """
    settings: Settings = current_app.extensions["model_api_settings"]
    service = current_service()
    if named := current_request().headers.get("X-Model"):
        return checked_address(named)
    rows = [row for row in service.models() if row.get("task") and fits(str(row["task"]))]
    names = [str(row["name"]) for row in rows if row.get("state") == SERVING]
    chosen = settings.protocol_model
    if chosen and chosen.partition("@")[0] in [row["name"] for row in rows]:
        return chosen
    if len(names) == 1:
        return names[0]
    if not names and not service.readiness().ready:
        raise ModelNotReady(what, "no such model is loaded yet")
    found = f"{len(names)} are served ({', '.join(sorted(names)[:10])})" if names else "none is served"
    raise InvalidInput(f"name the {what} in the header X-Model: {found}", "")
