"""What this instance saw published last, kept in its local store: a restart with the shared file system away serves.

Written and read by the poller's thread.
"""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json
from model_api.repository.files import write_aside
from model_api.repository.manifest import Manifest
from model_api.repository.plain_folders import Accepted
from model_api.repository.published import Published
from model_api.repository.refs import Refs

FILE_NAME = "last_seen.json"
_MAX_BYTES = 256 * 2**20


def remember(store: Path, observation: Mapping[str, Published], sim_model: str | None = None) -> None:
    """Replace what was remembered, if it differs; `sim_model` answers /sim for callers that name none. Raises
    OSError."""
    models = {}
    for name, published in observation.items():
        with contextlib.suppress(Refused):  # too much of it to be written down; the others are
            if published.refs is not None:
                models[name] = _to_raw(published)
    text = json.dumps({"models": models, "sim_model": sim_model}, indent=1) + "\n"
    file = store / FILE_NAME
    try:
        if file.read_text("utf-8") == text:
            return
    except FileNotFoundError:
        store.mkdir(parents=True, exist_ok=True)
    except ValueError:
        pass  # damaged: about to be replaced
    write_aside(file, text, owner=f"{os.getpid()}.")


def recall(store: Path) -> dict[str, Published]:
    """What was remembered, without its refusals. A model whose entry is damaged is left out. Raises OSError, but for
    a store that remembers nothing."""
    try:
        models = dict(read_json(store / FILE_NAME, _MAX_BYTES)["models"])
    except (FileNotFoundError, Refused, ValueError, KeyError, TypeError):
        return {}
    found = {}
    for name, entry in models.items():
        try:
            found[name] = _from_raw(name, entry)
        except Exception:  # noqa: S112 - whatever is wrong with one entry, the others are remembered
            continue
    return found


def recall_sim_model(store: Path) -> str | None:
    """The model that answered /sim; None if nothing is remembered."""
    try:
        name = read_json(store / FILE_NAME, _MAX_BYTES)["sim_model"]
    except (OSError, Refused, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _to_raw(published: Published) -> dict[str, Any]:
    accepted = published.accepted
    return {
        "refs": published.refs.to_json() if published.refs is not None else None,
        "manifests": {version: manifest.to_json() for version, manifest in published.manifests.items()},
        "sources": {version: str(source) for version, source in published.sources.items()},
        "plain": published.plain,
        "signature": {path: list(marks) for path, marks in accepted.signature.items()} if accepted else None,
    }


def _from_raw(name: str, raw: Mapping[str, Any]) -> Published:
    manifests = {version: Manifest.from_json(entry) for version, entry in raw["manifests"].items()}
    refs = Refs.from_json(raw["refs"])
    accepted = None
    if raw["plain"] and raw["signature"] is not None and refs.stable is not None:
        signature = {path: (marks[0], marks[1], marks[2], marks[3]) for path, marks in raw["signature"].items()}
        accepted = Accepted(manifests[refs.stable.version], signature)
    sources = {version: Path(source) for version, source in raw["sources"].items()}
    return Published(name, refs, manifests, {}, sources, plain=bool(raw["plain"]), accepted=accepted)
