"""Judging and hashing a plainly copied folder. It parses what a stranger wrote: instances do it in an inspector.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.checksums import MAX_SUMS_BYTES, SUMS_NAME, compare_sums, parse_sums
from model_api.repository.files import hash_file
from model_api.repository.folder_signature import Changed, Signature, take_signature
from model_api.repository.known_tasks import memory_bytes
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, FileEntry, Manifest
from model_api.repository.model_folder import check_model, is_excluded, list_files
from model_api.repository.safetensors_header import Tensor
from model_api.repository.side_work import OnProgress

QUICK_JSON_BYTES = 2**20


def quick_check(folder: Path) -> None:
    """Raises Refused (Incomplete) for what is plainly wrong or missing; OSError. Leaves large JSON to hash_folder."""
    files = list_files(folder, links=False)
    _check(folder, files, QUICK_JSON_BYTES)


def _check(folder: Path, files: Mapping[str, Path], max_json_bytes: int = 2**40) -> tuple[list[Tensor], str]:
    """The tensors and the task; the folder's own manifest.json says the latter before anything is inferred. A manifest
    that doesn't read is told where it is compared."""
    sealed = None
    with contextlib.suppress(Refused, FileNotFoundError):
        sealed = Manifest.from_json(read_bounded(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES))
    return check_model(files, sealed.task if sealed else None, sealed.options if sealed else None, max_json_bytes)


def hash_folder(name: str, folder: Path, signature: Signature, on_progress: OnProgress = lambda: None) -> Manifest:
    """Check the folder, read and hash every file, and compare with its seal if it has one. Slow, and it parses what a
    stranger wrote: instances do it in an inspector. Raises Refused if it must not be served, Changed if it changed
    meanwhile, other OSError."""
    entries, tensors, task = _hash_unchanged(folder, signature, on_progress)
    sealed = check_seal(folder, entries)
    manifest = sealed or Manifest(name, "plain", task, entries, memory_bytes(tensors, task))
    if take_signature(folder) != signature:
        raise Changed("changed while it was compared with its checksums")
    return replace(manifest, model=name, version=manifest.digest)


def hash_folder_entries(folder: Path, signature: Signature) -> Sequence[FileEntry]:
    """The folder's files with their hashes, once its structure is found whole. Raises as hash_folder."""
    return _hash_unchanged(folder, signature, lambda: None)[0]


def _hash_unchanged(
    folder: Path, signature: Signature, on_progress: OnProgress
) -> tuple[tuple[FileEntry, ...], list[Tensor], str]:
    try:
        if take_signature(folder) != signature:
            raise Changed("changed while it was looked at")
        files = list_files(folder, links=False)
        tensors, task = _check(folder, files)
        entries = tuple(FileEntry(p, *hash_file(file, lambda block: on_progress())) for p, file in files.items())
    except (Refused, FileNotFoundError) as error:
        if isinstance(error, Refused) and take_signature(folder) == signature:
            raise
        raise Changed("changed while it was looked at") from None
    if take_signature(folder) != signature:
        raise Changed("changed while it was hashed; it is still being copied")
    return entries, tensors, task


def check_seal(folder: Path, entries: Sequence[FileEntry], exclude: Sequence[str] = ()) -> Manifest | None:
    """Compare with SHA256SUMS and manifest.json; returns the latter. What `exclude` names is left out on both sides.
    Raises Refused naming the first difference."""
    have = {entry.path: entry.sha256 for entry in entries}
    sums, manifest = folder / SUMS_NAME, folder / MANIFEST_NAME
    if os.path.lexists(sums) and not is_excluded(SUMS_NAME, exclude):
        _compare(have, parse_sums(read_bounded(sums, MAX_SUMS_BYTES)), SUMS_NAME, exclude)
    if not os.path.lexists(manifest) or is_excluded(MANIFEST_NAME, exclude):
        return None
    sealed = Manifest.from_json(read_bounded(manifest, MAX_MANIFEST_BYTES))
    _compare(have, {entry.path: entry.sha256 for entry in sealed.files}, MANIFEST_NAME, exclude)
    return sealed


def _compare(have: Mapping[str, str], listed: Mapping[str, str], seal: str, exclude: Sequence[str]) -> None:
    compare_sums(have, {path: sha256 for path, sha256 in listed.items() if not is_excluded(path, exclude)}, seal)
