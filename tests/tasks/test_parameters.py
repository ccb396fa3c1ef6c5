"""Every parameter is known, of the right type and within its limits."""

from typing import Any, Literal

import pytest
from pydantic import Field

from model_api.errors import InvalidInput, Refused
from model_api.tasks.parameters import TextParameters, check_defaults, read_parameters


class Accepted(TextParameters):
    beams: int = Field(1, ge=1, le=8)
    temperature: float | None = Field(None, ge=0, le=2)
    style: Literal["short", "long"] = "short"


def test_defaults_and_given_values() -> None:
    read = read_parameters(Accepted, {"beams": 4, "temperature": 1}, {"truncate": True, "beams": 2})
    assert read.model_dump() == {"truncate": True, "beams": 4, "temperature": 1.0, "style": "short"}


@pytest.mark.parametrize(
    "given, pointer, message",
    [
        ({"beam": 1}, "/parameters/beam", "unknown parameter 'beam'.*accepts: beams, style, temperature, truncate"),
        ({"a/b~c": 1}, "/parameters/a~1b~0c", "unknown"),
        ({"beams": 0}, "/parameters/beams", "between 1 and 8"),
        ({"beams": 9}, "/parameters/beams", "between 1 and 8"),
        ({"beams": 10**400}, "/parameters/beams", "beams"),
        ({"beams": True}, "/parameters/beams", "an integer"),
        ({"beams": 2.0}, "/parameters/beams", "an integer"),
        ({"beams": "2"}, "/parameters/beams", "an integer"),
        ({"beams": None}, "/parameters/beams", "an integer"),
        ({"truncate": 1}, "/parameters/truncate", "true or false"),
        ({"truncate": "yes"}, "/parameters/truncate", "true or false"),
        ({"temperature": float("nan")}, "/parameters/temperature", "between 0 and 2"),
        ({"temperature": float("inf")}, "/parameters/temperature", "between 0 and 2"),
        ({"temperature": "1"}, "/parameters/temperature", "a number"),
        ({"style": "odd"}, "/parameters/style", "one of short, long"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_parameters(Accepted, given)
    assert caught.value.pointer == pointer


def test_what_may_be_left_out_may_be_null() -> None:
    assert read_parameters(Accepted, {"temperature": None}).temperature is None


def test_a_models_own_default_beyond_the_limits_is_refused() -> None:
    check_defaults(Accepted, {"beams": 8})
    for bad in ({"beams": 9}, {"unheard": 1}, {"truncate": "yes"}):
        with pytest.raises(Refused, match="a default is not acceptable"):
            check_defaults(Accepted, bad)
