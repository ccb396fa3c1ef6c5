"""Reading a request's `parameters`: every one is known, of the right type and within its limits, or it's a 422."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model_api.errors import InvalidInput


@dataclass(frozen=True)
class Parameter:
    """What a task accepts under one name. `low` and `high` are inclusive and hold for numbers."""

    kind: type[bool] | type[int] | type[float] | type[str]
    default: Any
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()


TRUNCATE = Parameter(bool, False)


def read_parameters(given: Mapping[str, Any], accepted: Mapping[str, Parameter]) -> dict[str, Any]:
    """Every accepted parameter with its value or default. Raises InvalidInput pointing at /parameters/<name>."""
    for name in given:
        if name not in accepted:
            known = ", ".join(sorted(accepted)) or "none"
            raise InvalidInput(f"unknown parameter {name!r}; this model's task accepts: {known}", pointer_to(name))
    return {
        name: _checked(name, given[name], spec) if name in given else spec.default for name, spec in accepted.items()
    }


def pointer_to(name: str) -> str:
    """RFC 6901 pointer of a parameter."""
    return "/parameters/" + name.replace("~", "~0").replace("/", "~1")


def _checked(name: str, value: Any, spec: Parameter) -> Any:
    def bad(what: str) -> InvalidInput:
        return InvalidInput(f"{name} must be {what}", pointer_to(name))

    if spec.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not spec.kind:  # bool is an int to isinstance
        raise bad({bool: "true or false", int: "an integer", float: "a number", str: "a string"}[spec.kind])
    if spec.choices and value not in spec.choices:
        raise bad("one of " + ", ".join(map(str, spec.choices)))
    if isinstance(value, int | float) and not spec.low <= value <= spec.high:
        raise bad(f"between {spec.low:g} and {spec.high:g}")
    return value
