"""models/.generation: what changed in the whole store, so that a look at an unchanged store is one small read.

Every command that changes what serves opens its change here before, and closes it after:

    {"open": "minilm", "changes": [["3f2a...", "sentiment"], ["b071...", "minilm"]]}

`changes` are the last ones, newest at the end, each with a mark of its own that is never used twice. While a model
stands in "open" it is looked at every time: a command that died between its change and its last word hides nothing.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace

from model_api.errors import Refused
from model_api.repository.bounded_json import BadJson, parse_json
from model_api.repository.manifest import check_name

GENERATION_NAME = ".generation"
MAX_GENERATION_BYTES = 64 * 2**10
_KEPT_CHANGES = 64


@dataclass(frozen=True)
class Generation:
    """The store's last changes; `open` is the model whose change is under way, or was when its author died."""

    changes: tuple[tuple[str, str], ...] = ()  # mark, model
    open: str | None = None

    @property
    def mark(self) -> str:
        """Of the newest change; "" before the first."""
        return self.changes[-1][0] if self.changes else ""

    def since(self, mark: str) -> set[str] | None:
        """The models that changed after `mark`, the one that is changing included; None where that isn't known."""
        marks = [known for known, _ in self.changes]
        if mark not in marks and (mark or len(marks) == _KEPT_CHANGES):
            return None
        changed = {name for _, name in self.changes[marks.index(mark) + 1 if mark else 0 :]}
        return changed | ({self.open} if self.open else set())

    def opened(self, name: str) -> Generation:
        """With a change of `name` under way. One that was left open counts as done: nobody else will say so."""
        return replace(self.closed(), open=name)

    def closed(self) -> Generation:
        """With the change that was under way done."""
        if self.open is None:
            return self
        return Generation((*self.changes, (uuid.uuid4().hex, self.open))[-_KEPT_CHANGES:])

    def to_json(self) -> str:
        return json.dumps({"open": self.open, "changes": [list(change) for change in self.changes]}) + "\n"

    @classmethod
    def from_json(cls, data: bytes) -> Generation:
        """Raises Refused naming .generation."""
        try:
            raw = parse_json(data, MAX_GENERATION_BYTES)
            changes = tuple((_mark(mark), check_name("model", name)) for mark, name in raw["changes"])
            return cls(changes, None if raw["open"] is None else check_name("model", raw["open"]))
        except BadJson as error:
            raise Refused(GENERATION_NAME, str(error)) from None
        except (Refused, ValueError, TypeError, KeyError) as error:
            raise Refused(GENERATION_NAME, f"not a generation ({type(error).__name__}: {error})") from error


def _mark(raw: object) -> str:
    if not isinstance(raw, str) or not 0 < len(raw) <= 64:
        raise ValueError(f"mark {str(raw)[:80]!r}")
    return raw
