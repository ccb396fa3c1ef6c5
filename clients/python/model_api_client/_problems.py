"""Which exception a problem document is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from model_api_client.errors import CallerProblem, Problem, RequestTooLarge, ServerProblem


def _known(kind: type[Problem]) -> Iterator[type[Problem]]:
    for below in kind.__subclasses__():
        yield below
        yield from _known(below)


def _slug_of(name: str) -> str:
    return "".join("-" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("-")


# "unknown-model": UnknownModel; and what HTTP itself calls by a name of its own.
BY_TYPE: Mapping[str, type[Problem]] = {
    **{_slug_of(kind.__name__): kind for kind in _known(Problem) if kind not in (CallerProblem, ServerProblem)},
    "request-entity-too-large": RequestTooLarge,
}


def problem_of(status: int, document: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Problem:
    """The exception for a problem document."""
    general = CallerProblem if status < 500 else ServerProblem
    return BY_TYPE.get(str(document.get("type") or "").rpartition("/")[2], general)(status, document, headers)
