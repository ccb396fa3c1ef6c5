"""The files of a model's folder, and where their bytes really are.

A model is every file in the folder whose name doesn't begin with a dot and isn't nobody's (ignored_names), but
manifest.json and SHA256SUMS, which describe it. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.checksums import SUMS_NAME
from model_api.repository.ignored_names import is_nobodys
from model_api.repository.manifest import MANIFEST_NAME, check_path
from model_api.repository.problem import Problem, refuse
from model_api.repository.refs import REFS_NAME

MAX_DEPTH = 32
DESCRIBING = frozenset({MANIFEST_NAME, SUMS_NAME, REFS_NAME})  # the last where a deleted model was
# huggingface_hub keeps blobs of several repositories in one place, which this file marks (its layout version 1).
_SHARED_BLOBS_MARKER = ".huggingface-shared-blobs"


def is_excluded(path: str, exclude: Sequence[str]) -> bool:
    """Whether one of the patterns names `path`; `*` matches a slash too."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in exclude)


def list_files(
    folder: Path, exclude: Sequence[str] = (), links: bool = True, on_problem: Callable[[Problem], None] = refuse
) -> dict[str, Path]:
    """The model's files by relative path, sorted; the value is where the bytes really are.

    A symbolic link is followed where it stays inside the folder or, in a Hugging Face cache, inside that cache's blobs;
    with `links` false every link is a problem. What is a problem isn't in the result. Raises OSError, and what
    `on_problem` raises.
    """
    base = folder.resolve(strict=True)
    roots = [base, *_blob_folders(base)]
    found: dict[str, Path] = {}

    def visit(directory: Path, prefix: str) -> None:
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                path = prefix + entry.name
                if entry.name.startswith(".") or is_nobodys(entry.name) or is_excluded(path, exclude):
                    continue
                try:
                    if "\\" in entry.name:
                        raise Refused(path, _BACKSLASH.format(path.replace("\\", "/")))
                    target = Path(entry.path)
                    if entry.is_symlink():
                        target = _follow(target, path, roots, links)
                    mode = target.stat().st_mode
                    if stat.S_ISDIR(mode) and entry.is_symlink():
                        raise Refused(path, "a symbolic link to a folder; copy the folder itself")
                    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
                        raise Refused(path, "neither a file nor a folder")
                    if path.count("/") > MAX_DEPTH:
                        raise Refused(path[:80], f"folders in folders, deeper than {MAX_DEPTH}")
                    check_path(path)
                except Refused as error:
                    on_problem(Problem.of(error, exclude=path))
                    continue
                if stat.S_ISDIR(mode):
                    visit(target, path + "/")
                elif path not in DESCRIBING:
                    found[path] = target

    visit(base, "")
    return found


_BACKSLASH = (
    "a backslash in its name: packed under Windows, unpacked by a program that doesn't know its paths. Unpack it with"
    " another, or rename it to {}"
)


def _blob_folders(snapshot: Path) -> list[Path]:
    """Where the links of a snapshot in a Hugging Face cache may lead: its repository's blobs, and those that the whole
    cache shares."""
    if snapshot.parent.name != "snapshots":
        return []
    repository = snapshot.parent.parent
    shared = repository.parent / "blobs"
    return [repository / "blobs", *([shared] if (shared / _SHARED_BLOBS_MARKER).is_file() else [])]


def _follow(link: Path, path: str, roots: Sequence[Path], links: bool) -> Path:
    if not links:
        raise Refused(path, "a symbolic link; copy what it points to (rsync -aL, or scp -r)")
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise Refused(path, "a symbolic link that points nowhere") from error
    if not any(root in target.parents for root in roots):
        raise Refused(path, "a symbolic link that points outside the model's folder")
    return target
