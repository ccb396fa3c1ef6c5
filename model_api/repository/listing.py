"""What lies in models/ and at the store's root: models, and whatever else, with the reason why it isn't one.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from model_api.errors import RepositoryUnavailable
from model_api.repository.file_kinds import ACCEPTED, OTHER_WEIGHTS, PICKLES
from model_api.repository.ignored_names import is_nobodys
from model_api.repository.layout import KEYS_NAME, Layout
from model_api.repository.manifest import NAME_PATTERN

MAX_ODDITIES = 100
_MODELS_FILES = ACCEPTED | PICKLES | OTHER_WEIGHTS
_OWN_AT_ROOT = frozenset({"models", "status", "wheelhouse", KEYS_NAME})
_TELLING = ("config.json", "model.safetensors", "modules.json")
_RULE = "a model's name is 1 to 64 of a-z 0-9 . _ -, the first a letter or a digit"


def list_entries(layout: Layout) -> list[str]:
    """Names in models/ that are not hidden and not nobody's. Nothing is asked of the entries themselves, so that one
    of them can't keep the others waiting. Raises RepositoryUnavailable."""
    try:
        names = [path.name for path in layout.models.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RepositoryUnavailable(f"{layout.models} can't be listed: {error.strerror or error}") from error
    return sorted(name for name in names if not name.startswith(".") and not is_nobodys(name))


def why_no_model(models: Path, name: str) -> str:
    """Why the entry `name` of models/ can't be a model; "" if it can, or is gone. Raises OSError."""
    try:
        return why_unfit(name, os.lstat(models / name))
    except FileNotFoundError:
        return ""


def why_unfit(name: str, own: os.stat_result) -> str:
    """As why_no_model, of what was seen already."""
    if stat.S_ISLNK(own.st_mode):
        return "a symbolic link, and none is followed here; copy the folder itself (rsync -aL, or scp -r)"
    if not stat.S_ISDIR(own.st_mode):
        return "a file straight in models/ belongs to no model; each has a folder of its own, models/NAME/"
    return "" if NAME_PATTERN.fullmatch(name) else f"not served under this name: {_RULE}; rename the folder"


def may_announce(above: os.stat_result, own: os.stat_result) -> bool:
    """Whether the author of the model whose folder is `own` can write models/.generation, models/ being `above`: not if
    an access point or a user of his own shuts him into his model's folder."""
    return own.st_uid in (above.st_uid, 0) or bool(above.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def misplaced_at_root(root: Path) -> dict[str, str]:
    """What looks like a model or a part of one beside models/, with the reason. Raises OSError."""
    found: dict[str, str] = {}
    with os.scandir(root) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name in _OWN_AT_ROOT or is_nobodys(name) or len(found) >= MAX_ODDITIES:
                continue
            if entry.is_dir(follow_symlinks=False):
                if any(os.path.lexists(Path(entry.path, file)) for file in _TELLING):
                    found[f"/{shown(name)}"] = "a model's folder beside models/ isn't served; move it to models/NAME/"
            elif Path(name).suffix.lower() in _MODELS_FILES:
                found[f"/{shown(name)}"] = "a file at the store's root belongs to no model; put it into models/NAME/"
    return found


def loose_files(folder: Path) -> list[str]:
    """Files of a model that lie beside its versions, where nobody reads them; as people may be shown them. Raises
    OSError."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries]
    loose = [n for n in names if not n.startswith(".") and n not in ("versions", "refs.json") and not is_nobodys(n)]
    return sorted(shown(name) for name in loose)


def shown(name: str) -> str:
    """A name from a listing as text that has an encoding and no control characters."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)[:100]
