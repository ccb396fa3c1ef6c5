"""Reading a request's `parameters`: every one is known, of the right type and within its limits, or it's a 422."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_api.errors import InvalidInput, Refused

# pydantic's name of a wrong type -> ours
_KINDS = {"bool_type": "true or false", "int_type": "an integer", "float_type": "a number", "string_type": "a string"}


class Parameters(BaseModel):
    """What a task accepts. A field's constraints and description show in the OpenAPI document."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TextParameters(Parameters):
    """What all tasks on texts accept."""

    truncate: bool = Field(False, description="Cut texts that are longer than the model takes, instead of refusing.")


P = TypeVar("P", bound=Parameters)


def read_parameters(kind: type[P], given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> P:
    """The parameters that hold: what is given, else the model's own defaults, else the task's.

    Raises InvalidInput pointing at /parameters/<name>.
    """
    try:
        return kind.model_validate({**(defaults or {}), **given})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        raise InvalidInput(_told(kind, name, first["type"], first["msg"]), pointer_to(name)) from None


def check_defaults(kind: type[P], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same mapping. Raises Refused naming the manifest if a request that gives nothing would be refused."""
    try:
        read_parameters(kind, {}, defaults)
    except (InvalidInput, TypeError) as error:
        raise Refused("manifest.json", f"a default is not acceptable: {error}") from error
    return defaults


def pointer_to(name: str) -> str:
    """RFC 6901 pointer of a parameter."""
    return "/parameters/" + name.replace("~", "~0").replace("/", "~1")


def _told(kind: type[Parameters], name: str, error_type: str, message: str) -> str:
    if error_type == "extra_forbidden":
        known = ", ".join(sorted(kind.model_fields)) or "none"
        return f"unknown parameter {name!r}; this model's task accepts: {known}"
    if error_type in _KINDS:
        return f"{name} must be {_KINDS[error_type]}"
    schema = kind.model_json_schema()["properties"].get(name, {})
    for part in (schema, *schema.get("anyOf", ())):  # a field that may be null has its limits in anyOf
        if "minimum" in part and "maximum" in part:
            return f"{name} must be between {part['minimum']:g} and {part['maximum']:g}"
    if error_type == "literal_error":
        return f"{name} must be one of " + ", ".join(map(str, schema.get("enum", ())))
    return f"{name}: {message[:1].lower()}{message[1:]}"
