"""Where everything lies on the shared file system: the only knower of its paths; efs_layout/README.md shows them.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_api.errors import Refused, RepositoryUnavailable
from model_api.repository.bounded_files import read_bounded
from model_api.repository.generation import GENERATION_NAME
from model_api.repository.refs import REFS_NAME

MARKER_NAME = ".model-store"
KEYS_NAME = "keys.json"
HISTORY_NAME = ".history.jsonl"
SIM_CHOICE_NAME = ".sim.json"
LAYOUT_VERSION = "1"
_MAX_MARKER_BYTES = 1024


@dataclass(frozen=True)
class Layout:
    """Where everything lies under one root. Paths only; touches no disk."""

    root: Path

    @property
    def marker(self) -> Path:
        return self.root / MARKER_NAME

    @property
    def keys(self) -> Path:
        return self.root / KEYS_NAME

    @property
    def keys_lock(self) -> Path:
        return self.root / f".{KEYS_NAME}.lock"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def statuses(self) -> Path:
        return self.root / "status"

    @property
    def generation(self) -> Path:
        return self.models / GENERATION_NAME

    @property
    def generation_lock(self) -> Path:
        return self.models / f"{GENERATION_NAME}.lock"

    @property
    def sim_choice(self) -> Path:
        return self.models / SIM_CHOICE_NAME

    def model(self, name: str) -> Path:
        return self.models / name

    def refs(self, name: str) -> Path:
        return self.models / name / REFS_NAME

    def lock(self, name: str) -> Path:
        return self.models / name / ".lock"

    def versions(self, name: str) -> Path:
        return self.models / name / "versions"

    def version(self, name: str, version: str) -> Path:
        return self.models / name / "versions" / version

    def incoming(self, name: str) -> Path:
        return self.models / name / ".incoming"

    def history(self, name: str) -> Path:
        return self.models / name / HISTORY_NAME

    def trash(self, name: str) -> Path:
        return self.models / name / ".trash"


def mount_check(root: Path) -> None:
    """Is `root` a store whose layout this release knows? Raises RepositoryUnavailable with what to do."""
    try:
        version = read_bounded(Layout(root).marker, _MAX_MARKER_BYTES).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        raise RepositoryUnavailable(
            f"{root} holds no {MARKER_NAME}: not mounted, or never set up (scripts/publish --init sets it up)"
        ) from None
    except Refused as error:
        raise RepositoryUnavailable(f"{root}: {error}") from None
    except OSError as error:
        raise RepositoryUnavailable(f"{root} can't be read: {error.strerror or error}") from error
    if version != LAYOUT_VERSION:
        raise RepositoryUnavailable(f"{root} has layout {version[:20]!r}; this release knows {LAYOUT_VERSION!r}")
