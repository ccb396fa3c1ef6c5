"""On what terms a change is made: who asks and why, what the instances say, what must still be so.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from model_api.errors import RefsConflict, Refused
from model_api.repository.refs import Ref, Refs
from model_api.repository.statuses import Status

MAX_MESSAGE_CHARS = 500


@dataclass(frozen=True)
class Terms:
    """`force`: the author knows better than the instances. `expected`: the version that must be stable beforehand
    ("none": no version), None for any. `checked`: the author's own load of what is published has passed."""

    author: str = ""
    message: str = ""
    source: str = ""  # what was published, as its author named it
    force: bool = False
    expected: str | None = None
    checked: bool = False
    statuses: Mapping[str, Status] = field(default_factory=dict)

    def to_raw(self) -> dict[str, Any]:
        """As it travels to the far side, which reads the statuses itself."""
        return {key: value for key, value in vars(self).items() if key != "statuses"}

    def check(self, refs: Refs, name: str) -> None:
        """Raises RefsConflict if the stable version isn't the expected one."""
        stable = refs.stable.version if refs.stable else "none"
        if self.expected is not None and stable != self.expected:
            raise RefsConflict(
                f"{name}: version {stable} is stable, not {self.expected} as --expect-previous says; nothing changed"
            )

    def require_not_refused(self, refs: Refs, name: str, ref: Ref) -> None:
        """Raises Refused for a version that an instance refuses, unless forced."""
        if ref.version in refs.refused and not self.force:
            raise Refused("", f"{name}@{ref.version} is refused by {refs.refused[ref.version]}; --force overrides this")


NO_TERMS = Terms()


def this_author() -> str:
    """Who runs this process, for the history: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # no name for this uid, as in a container; no pwd on Windows
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
