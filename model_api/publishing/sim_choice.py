"""Which model answers /sim for callers that name none: chosen once, kept, changed only on purpose.

models/.sim.json says it, so that a second embedding model makes no caller's request ambiguous.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping

from model_api.errors import Refused
from model_api.publishing.announce import announced
from model_api.publishing.author_lock import author_lock
from model_api.repository.bounded_files import read_bounded
from model_api.repository.files import write_aside
from model_api.repository.layout import Layout
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, NAME_PATTERN, Manifest
from model_api.repository.reader import read_sim_choice
from model_api.repository.refs import MAX_REFS_BYTES, Refs
from model_api.repository.statuses import Status

TASK = "embedding"


def keep(layout: Layout, name: str, task: str, statuses: Mapping[str, Status]) -> list[str]:
    """Before `name` serves `task`: see to it that /sim stays with the model that it has. Returns what the author
    should know. Raises OSError."""
    if task != TASK:
        return []
    with _locked(layout):
        chosen = read_sim_choice(layout)
        if chosen is None or not _is_published(layout, chosen):
            chosen = _used_so_far(layout, statuses) or name
            _write(layout, chosen)
    if chosen == name:
        return []
    return [f"/sim without a model is answered by {chosen} as before; scripts/promote {name} --sim gives it to {name}"]


def choose(layout: Layout, name: str) -> str | None:
    """Give /sim to `name`; returns whose it was. Raises OSError."""
    with _locked(layout):
        before = read_sim_choice(layout)
        _write(layout, name)
    return before


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    with author_lock(layout.models / ".sim.lock", "the choice for /sim"):
        yield


def _write(layout: Layout, name: str) -> None:
    with announced(layout, name):
        write_aside(layout.sim_choice, json.dumps({"model": name}) + "\n")


def _is_published(layout: Layout, name: str) -> bool:
    """By version, or as a plain copy."""
    try:
        return _read_refs(layout, name).stable is not None
    except FileNotFoundError:
        return layout.model(name).is_dir()
    except Refused:
        return True


def _read_refs(layout: Layout, name: str) -> Refs:
    return Refs.from_json(read_bounded(layout.refs(name), MAX_REFS_BYTES))


def _used_so_far(layout: Layout, statuses: Mapping[str, Status]) -> str | None:
    """What the instances answer /sim with, else the first model whose stable version gives embeddings."""
    used = sorted({status.sim for status in statuses.values() if status.sim})
    if used:
        return used[0]
    for name in sorted(path.name for path in layout.models.iterdir() if NAME_PATTERN.fullmatch(path.name)):
        with contextlib.suppress(Refused, OSError):
            stable = _read_refs(layout, name).stable
            if stable is not None:
                text = read_bounded(layout.version(name, stable.version) / MANIFEST_NAME, MAX_MANIFEST_BYTES)
                if Manifest.from_json(text).task == TASK:
                    return name
    return None
