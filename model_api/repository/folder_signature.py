"""What the files of a folder look like from outside, to tell whether anything about them changed.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.ignored_names import is_nobodys
from model_api.repository.layout import HISTORY_NAME
from model_api.repository.refs import REFS_NAME

Signature = Mapping[str, tuple[int, int, int, int]]  # path -> inode, size, mtime ns, ctime ns
MAX_FILES, MAX_DEPTH = 10_000, 32
_NOT_THE_MODELS = frozenset(
    {".incoming", ".trash", ".lock", ".lock.held", HISTORY_NAME, REFS_NAME, f".{REFS_NAME}.new"}
)


class Changed(OSError):
    """A file changed while it was read; look again later."""


def take_signature(folder: Path) -> Signature:
    """What all files of the folder look like now, hidden ones too (rsync writes into those), but not what is nobody's.
    Raises OSError, and Refused for more than a model can hold."""
    signature: dict[str, tuple[int, int, int, int]] = {}
    folders = [("", 0)]
    while folders:
        prefix, depth = folders.pop()
        if depth > MAX_DEPTH:
            raise Refused(prefix[:80], f"folders in folders, deeper than {MAX_DEPTH}")
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                path = prefix + entry.name
                if is_nobodys(entry.name) or path in _NOT_THE_MODELS:
                    continue
                info = os.lstat(entry.path)  # not entry.stat(): a directory listing may bring stale attributes along
                if stat.S_ISDIR(info.st_mode):
                    folders.append((path + "/", depth + 1))
                    continue
                signature[path] = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                if len(signature) > MAX_FILES:
                    raise Refused("", f"more than {MAX_FILES} files: not a model's folder")
    return signature
