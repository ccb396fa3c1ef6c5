"""Publish a folder: check it, hash it, stage it, put it in place.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.publishing.changes import Outcome, check_before_copy, locked
from model_api.publishing.inspection import inspect
from model_api.publishing.same_content import Progress, find_existing, settle
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.publishing.upload import Upload, remove_dead_uploads
from model_api.repository.files import hash_file
from model_api.repository.folder_content import check_seal
from model_api.repository.known_tasks import memory_bytes
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import FileEntry, Manifest, Probe, check_name


@dataclass(frozen=True)
class Draft:
    """A checked and hashed folder: a manifest whose version is still open, where each file's bytes are, and what its
    author should know (`notes`)."""

    manifest: Manifest
    files: Mapping[str, Path]
    folder: Path
    notes: tuple[str, ...] = ()


def draft(
    folder: Path,
    name: str,
    progress: Progress,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    probes: Sequence[Probe] = (),
    exclude: Sequence[str] = (),
) -> Draft:
    """Check `folder` and hash its files. What isn't given is taken from the folder's own manifest.json; an option of
    None is taken out. Raises Refused naming the file that must not be published; OSError."""
    check_name("model", name)
    inspection = inspect(folder, task, options, exclude)
    inspection.require_servable()
    files, judgement, sealed = inspection.files, inspection.judgement, inspection.sealed
    total_bytes, done_bytes = sum(file.stat().st_size for file in files.values()), 0

    def count(block: bytes) -> None:
        nonlocal done_bytes
        done_bytes += len(block)
        progress(done_bytes, max(total_bytes, done_bytes))

    entries = tuple(FileEntry(path, *hash_file(file, count)) for path, file in files.items())
    check_seal(folder, entries, exclude)
    if sealed is not None and not probes:
        probes = sealed.probes
    peak_bytes = memory_bytes(judgement.tensors, judgement.task)
    manifest = Manifest(name, "unnamed", judgement.task, entries, peak_bytes, inspection.options, tuple(probes))
    return Draft(manifest, files, folder, inspection.notes())


def publish(
    layout: Layout,
    made: Draft,
    progress: Progress,
    version: str | None = None,
    canary_percent: float | None = None,
    terms: Terms = NO_TERMS,
) -> Outcome:
    """Publish onto a mounted store. Where a version holds this content already, its files are verified, and what is
    missing or damaged is put right. Raises Refused, RefsConflict, RepositoryUnavailable, RepositoryError (no room),
    OSError."""
    mount_check(layout.root)
    manifest = made.manifest
    existing = find_existing(layout, manifest, progress)
    if existing is not None and existing.is_whole:
        with locked(layout, manifest.model):
            remove_dead_uploads(layout, manifest.model)
            return settle(layout, manifest, existing, canary_percent, terms)
    if existing is None:
        with locked(layout, manifest.model):
            check_before_copy(layout, manifest, version, canary_percent, terms)
    with Upload(layout, manifest) as upload:
        missing = upload.take_blobs() if existing is None else existing.wrong
        upload.require_room(missing)
        upload.copy(missing, made.files, progress)
        if existing is not None:
            return upload.mend(existing, canary_percent, terms)
        return upload.finish(version, canary_percent, terms)
