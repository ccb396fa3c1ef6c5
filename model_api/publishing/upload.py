"""A version on its way in: staged in .incoming on the same file system, synced, renamed into versions/.

An author's process that is killed in between leaves at most a staged folder that nobody locks (the next publish
removes it), or a version that no ref names (publishing the same content again completes it).
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from model_api.errors import Refused, RepositoryError
from model_api.publishing.changes import Outcome, free_version, locked, name_it, read_refs
from model_api.publishing.same_content import Existing, Progress, find_by_manifest, settle, take_blobs
from model_api.repository.files import (
    file_mode,
    folder_mode,
    hash_file,
    locked_file,
    make_dirs,
    sync_folder,
    write_aside,
)
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import MANIFEST_NAME, FileEntry, Manifest, check_name
from model_api.repository.refs import Ref
from model_api.repository.units import mb

_LOCK_NAME = ".lock"


class Upload:
    """A version on its way in: a folder that is locked while its author lives. A context manager; leaving it removes
    what finish() hasn't put in place, unless `token` gave the folder a lasting name to resume a transfer by."""

    def __init__(self, layout: Layout, manifest: Manifest, token: str | None = None) -> None:
        """Raises BlockingIOError if another process is at the same token, RepositoryUnavailable, OSError."""
        mount_check(layout.root)
        self._layout, self._manifest, self._resumable = layout, manifest, token is not None
        name = check_name("model", manifest.model)
        self.folder = layout.incoming(name) / (token or uuid.uuid4().hex)
        self._stack = contextlib.ExitStack()
        with locked(layout, name):  # a cleaner takes this lock too, so it never meets a folder that isn't locked yet
            remove_dead_uploads(layout, name, spare=self.folder.name)
            make_dirs(self.folder)
            self._stack.enter_context(locked_file(self.folder / _LOCK_NAME, wait=False))

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if not self._resumable:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._stack.close()

    def require_room(self, entries: Sequence[FileEntry]) -> None:
        """Raises RepositoryError with the figures if the file system can't take what is still missing of `entries`."""
        present = (self.folder / entry.path for entry in entries)
        needed_bytes = sum(entry.size_bytes for entry in entries)
        needed_bytes -= sum(file.stat().st_size for file in present if file.is_file())
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < needed_bytes:
            raise RepositoryError(f"no room in {self._layout.root}: {mb(needed_bytes)} needed, {mb(free_bytes)} free")

    def take_blobs(self) -> list[FileEntry]:
        """Share what other versions of the model hold; what is still to come. Raises OSError."""
        taken = set(take_blobs(self._layout, self._manifest, self.folder, make_dirs))
        return [entry for entry in self._manifest.files if entry.path not in taken]

    def copy(self, entries: Sequence[FileEntry], files: Mapping[str, Path], progress: Progress) -> None:
        """Copy files in, hashing on the way. Raises Refused if one changed since it was hashed; OSError."""
        done_bytes, total_bytes = 0, sum(entry.size_bytes for entry in entries)
        for entry in entries:
            target = self.folder / entry.path
            make_dirs(target.parent)
            with target.open("wb") as sink:

                def copy_block(block: bytes, sink: BinaryIO = sink) -> None:
                    nonlocal done_bytes
                    sink.write(block)
                    done_bytes += len(block)
                    progress(min(done_bytes, total_bytes), total_bytes)

                _, sha256 = hash_file(files[entry.path], copy_block)
            if sha256 != entry.sha256:
                raise Refused(entry.path, "changed while it was being published")

    def verify(self, entries: Sequence[FileEntry], progress: Progress) -> None:
        """Hash what another program put into the folder; a wrong file is removed, so that a second try sends it anew.
        Raises Refused naming the first wrong file; OSError."""
        done_bytes, total_bytes = 0, sum(entry.size_bytes for entry in entries)

        def count(block: bytes) -> None:
            nonlocal done_bytes
            done_bytes += len(block)
            progress(min(done_bytes, total_bytes), total_bytes)

        for entry in entries:
            file = self.folder / entry.path
            if not file.is_file() or file.is_symlink():
                raise Refused(entry.path, "did not arrive; publish again to resume")
            if hash_file(file, count)[1] != entry.sha256:
                file.unlink()
                raise Refused(entry.path, "arrived damaged and was removed; publish again to resume")

    def finish(self, version: str | None = None, canary_percent: float | None = None) -> Outcome:
        """Put the version in place and let the refs name it; `version` None counts up. Raises Refused, RefsConflict,
        OSError: then nothing of what serves has changed."""
        layout, name, digest = self._layout, self._manifest.model, self._manifest.digest
        _tidy(self.folder, self._manifest.files)
        with locked(layout, name):
            existing = find_by_manifest(layout, self._manifest)
            if existing is not None and existing.is_whole:  # another author put it there meanwhile
                return settle(layout, self._manifest, existing, canary_percent)
            version = free_version(layout, name, version)
            write_aside(self.folder / MANIFEST_NAME, replace(self._manifest, version=version).to_json())
            make_dirs(layout.versions(name))
            (self.folder / _LOCK_NAME).unlink()
            sync_folder(self.folder)
            self.folder.rename(layout.version(name, version))
            try:
                sync_folder(layout.versions(name))
                sync_folder(layout.incoming(name))
                return name_it(layout, name, Ref(version, digest), canary_percent)
            except (OSError, RepositoryError):
                self._take_back(version)
                raise

    def mend(self, existing: Existing, canary_percent: float | None = None) -> Outcome:
        """Replace what is missing or damaged in a version, file by file, by what was copied in. A reader in between
        meets a wrong hash and tries again. Raises Refused, RefsConflict, OSError."""
        layout, name, version = self._layout, self._manifest.model, existing.ref.version
        _tidy(self.folder, existing.wrong)
        folder = layout.version(name, version)
        with locked(layout, name):
            make_dirs(folder)
            for entry in existing.wrong:
                target = folder / entry.path
                make_dirs(target.parent)
                if target.is_dir() and not target.is_symlink():
                    shutil.rmtree(target)
                (self.folder / entry.path).replace(target)
                sync_folder(target.parent)
            if existing.manifest_is_wrong:
                write_aside(folder / MANIFEST_NAME, replace(self._manifest, version=version).to_json())
            return settle(layout, self._manifest, existing, canary_percent)

    def _take_back(self, version: str) -> None:
        """Undo the rename of a version that no ref names (the disk filled up, say)."""
        layout, name = self._layout, self._manifest.model
        with contextlib.suppress(OSError, RepositoryError):
            if version not in read_refs(layout, name).named():
                layout.version(name, version).rename(self.folder)


def remove_dead_uploads(layout: Layout, name: str, spare: str = "") -> None:
    """Remove staged folders that no living process locks, but the one named `spare`. Under `locked`."""
    if not layout.incoming(name).is_dir():
        return
    for folder in list(layout.incoming(name).iterdir()):
        if folder.name == spare:
            continue
        with contextlib.suppress(BlockingIOError, NotADirectoryError), locked_file(folder / _LOCK_NAME, wait=False):
            shutil.rmtree(folder, ignore_errors=True)


def _tidy(folder: Path, files: Sequence[FileEntry]) -> None:
    """Nothing but the listed files, readable by every uid, and all of it on disk."""
    listed = {entry.path for entry in files}
    for directory, _, names in os.walk(folder, topdown=False):
        for file in (Path(directory, name) for name in names):
            path = file.relative_to(folder).as_posix()
            if path in listed:
                mode = file_mode(folder.parent)
                with file.open("rb") as stream:
                    if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) != mode:  # a shared blob may be somebody else's
                        os.fchmod(stream.fileno(), mode)
                    os.fsync(stream.fileno())
            elif path != _LOCK_NAME:
                file.unlink()
        Path(directory).chmod(folder_mode(folder.parent))
        sync_folder(Path(directory))
