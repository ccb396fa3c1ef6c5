"""What is wrong with a model's folder, with what mends it.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from model_api.errors import Refused
from model_api.repository.safetensors_header import Incomplete


@dataclass(frozen=True)
class Problem:
    """Why a folder can't be served as it is. `exclude` is what --exclude must name to mend it, "" where that doesn't;
    `incomplete` says that a copy in progress looks like this too."""

    path: str
    reason: str
    exclude: str = ""
    incomplete: bool = False

    @classmethod
    def of(cls, error: Refused, exclude: str = "") -> Problem:
        return cls(error.path, error.reason, exclude, isinstance(error, Incomplete))

    def error(self) -> Refused:
        return (Incomplete if self.incomplete else Refused)(self.path, self.reason)


def refuse(problem: Problem) -> None:
    """What to do about a problem where one is enough. Raises Refused."""
    raise problem.error()
