"""A version on its way in: staged in .incoming on the same file system, synced, renamed into versions/.

An author's process that is killed in between leaves at most a staged folder that nobody locks (the next publish
removes it), or a version that no ref names (publishing the same content again completes it).
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from model_api.errors import Refused, RepositoryError
from model_api.publishing.changes import Outcome, free_version, locked, name_it, read_refs, settle_existing
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

Progress = Callable[[int, int], None]  # bytes done, bytes in all
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

    def require_room(self) -> None:
        """Raises RepositoryError with the figures if the file system can't take what is still missing."""
        present = (self.folder / entry.path for entry in self._manifest.files)
        needed_bytes = self._manifest.size_bytes - sum(file.stat().st_size for file in present if file.is_file())
        free_bytes = shutil.disk_usage(self.folder).free
        if free_bytes < needed_bytes:
            raise RepositoryError(f"no room in {self._layout.root}: {mb(needed_bytes)} needed, {mb(free_bytes)} free")

    def copy(self, files: Mapping[str, Path], progress: Progress) -> None:
        """Copy the files in, hashing on the way. Raises Refused if one changed since it was hashed; OSError."""
        done_bytes, total_bytes = 0, self._manifest.size_bytes
        for entry in self._manifest.files:
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

    def verify(self, progress: Progress) -> None:
        """Hash what another program put into the folder; a wrong file is removed, so that a second try sends it anew.
        Raises Refused naming the first wrong file; OSError."""
        done_bytes, total_bytes = 0, self._manifest.size_bytes

        def count(block: bytes) -> None:
            nonlocal done_bytes
            done_bytes += len(block)
            progress(min(done_bytes, total_bytes), total_bytes)

        for entry in self._manifest.files:
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
            settled = settle_existing(layout, self._manifest, canary_percent)
            if settled is not None:
                return settled
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
                with file.open("rb") as stream:
                    os.fchmod(stream.fileno(), file_mode(folder.parent))
                    os.fsync(stream.fileno())
            elif path != _LOCK_NAME:
                file.unlink()
        Path(directory).chmod(folder_mode(folder.parent))
        sync_folder(Path(directory))
