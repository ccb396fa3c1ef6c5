"""Publish a folder: check it, hash it, stage it, put it in place.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.publishing.changes import Outcome, check_before_copy, locked, settle_existing
from model_api.publishing.upload import Progress, Upload, remove_dead_uploads
from model_api.repository.files import hash_file
from model_api.repository.known_tasks import TASKS, memory_bytes
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import FileEntry, Manifest, Probe, check_name
from model_api.repository.model_folder import check_files, infer_task_of, list_files


@dataclass(frozen=True)
class Draft:
    """A checked and hashed folder: a manifest whose version is still open, and where each file's bytes are."""

    manifest: Manifest
    files: Mapping[str, Path]
    folder: Path


def draft(
    folder: Path,
    name: str,
    progress: Progress,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    probes: Sequence[Probe] = (),
    exclude: Sequence[str] = (),
) -> Draft:
    """Check `folder` and hash its files. Raises Refused naming the file that must not be published; OSError."""
    check_name("model", name)
    if task is not None and task not in TASKS:
        raise Refused("", f"unknown task {task!r}; known: {', '.join(sorted(TASKS))}")
    if not folder.is_dir():
        raise Refused("", f"{folder} is not a folder; give the model's folder or a Hugging Face snapshot")
    if (folder / "snapshots").is_dir() and (folder / "blobs").is_dir():
        snapshots = sorted(str(path) for path in (folder / "snapshots").iterdir())
        raise Refused("", f"{folder} is a Hugging Face cache; give one of its snapshots: {', '.join(snapshots)}")
    files = list_files(folder, exclude)
    tensors = check_files(files)
    task = task or infer_task_of(files)
    total_bytes, done_bytes = sum(file.stat().st_size for file in files.values()), 0

    def count(block: bytes) -> None:
        nonlocal done_bytes
        done_bytes += len(block)
        progress(done_bytes, max(total_bytes, done_bytes))

    entries = tuple(FileEntry(path, *hash_file(file, count)) for path, file in files.items())
    manifest = Manifest(name, "unnamed", task, entries, memory_bytes(tensors, task), dict(options or {}), tuple(probes))
    return Draft(manifest, files, folder)


def publish(
    layout: Layout, made: Draft, progress: Progress, version: str | None = None, canary_percent: float | None = None
) -> Outcome:
    """Publish onto a mounted store. The same content again is a no-op. Raises Refused, RefsConflict,
    RepositoryUnavailable, RepositoryError (no room), OSError."""
    mount_check(layout.root)
    name = made.manifest.model
    with locked(layout, name):
        remove_dead_uploads(layout, name)
        settled = settle_existing(layout, made.manifest, canary_percent)
        if settled is None:
            check_before_copy(layout, made.manifest, version, canary_percent)
    if settled is not None:
        return settled
    with Upload(layout, made.manifest) as upload:
        upload.require_room()
        upload.copy(made.files, progress)
        return upload.finish(version, canary_percent)
