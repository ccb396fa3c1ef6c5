"""Every parameter is known, of the right type and within its limits."""

from typing import Any

import pytest

from model_api.errors import InvalidInput
from model_api.tasks.parameters import Parameter, read_parameters

ACCEPTED = {
    "truncate": Parameter(bool, False),
    "beams": Parameter(int, 1, low=1, high=8),
    "temperature": Parameter(float, 1.0, low=0.0, high=2.0),
    "style": Parameter(str, "short", choices=("short", "long")),
}


def test_defaults_and_given_values() -> None:
    assert read_parameters({"beams": 4, "temperature": 1}, ACCEPTED) == {
        "truncate": False,
        "beams": 4,
        "temperature": 1.0,
        "style": "short",
    }


@pytest.mark.parametrize(
    "given, pointer, message",
    [
        ({"beam": 1}, "/parameters/beam", "unknown"),
        ({"a/b~c": 1}, "/parameters/a~1b~0c", "unknown"),
        ({"beams": 0}, "/parameters/beams", "between 1 and 8"),
        ({"beams": 9}, "/parameters/beams", "between 1 and 8"),
        ({"beams": True}, "/parameters/beams", "an integer"),
        ({"beams": 2.0}, "/parameters/beams", "an integer"),
        ({"truncate": 1}, "/parameters/truncate", "true or false"),
        ({"truncate": "yes"}, "/parameters/truncate", "true or false"),
        ({"temperature": float("nan")}, "/parameters/temperature", "between"),
        ({"temperature": None}, "/parameters/temperature", "a number"),
        ({"style": "odd"}, "/parameters/style", "one of short, long"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, Any], pointer: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_parameters(given, ACCEPTED)
    assert caught.value.pointer == pointer
