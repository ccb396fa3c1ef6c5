"""The two settings that the authors' commands share with the instances, so that no other setting can stop a command;
and the key that commands which ask a server send.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# Beside the package, whatever the current folder is: `serve` and `publish` mean the same place.
DEFAULT_ROOT = Path(__file__).resolve().parents[2] / "efs"
CALLER_KEY = "MODEL_API_KEY"
EFS_ROOT, STATUS_DIR = "MODEL_API_EFS_ROOT", "MODEL_API_STATUS_DIR"


def absolute_path(value: str) -> Path:
    """A path as settings give it: `~` is a home folder, what is relative starts at the current folder."""
    return Path(value).expanduser().absolute()


def efs_root(environ: Mapping[str, str] | None = None) -> Path:
    """Where the store is."""
    value = _value(environ, EFS_ROOT)
    return absolute_path(value) if value else DEFAULT_ROOT


def status_dir(environ: Mapping[str, str] | None = None) -> Path | None:
    """Where instances write what they serve; None: in the store itself."""
    value = _value(environ, STATUS_DIR)
    return absolute_path(value) if value else None


def key_headers(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What to send to a server that asks for a key: MODEL_API_KEY's, if it is set."""
    key = _value(environ, CALLER_KEY)
    return {"Authorization": f"Bearer {key}"} if key else {}


def _value(environ: Mapping[str, str] | None, name: str) -> str:
    return (os.environ if environ is None else environ).get(name, "").strip()
