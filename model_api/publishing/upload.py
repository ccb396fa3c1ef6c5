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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from model_api.errors import Refused, RepositoryError
from model_api.publishing.changes import Outcome, free_version, locked, name_it, read_refs
from model_api.publishing.same_content import Existing, Progress, find_by_manifest, settle, take_blobs
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.repository.files import (
    BLOCK_BYTES,
    folder_mode,
    hash_file,
    locked_file,
    make_dirs,
    sync_file,
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
            for file in self.folder.rglob("*"):  # an earlier try's blobs are links, and writing goes through a link
                if file.is_file() and file.stat().st_nlink > 1:
                    file.unlink()

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
            target.unlink(missing_ok=True)  # it may be a link to somebody else's bytes
            with target.open("wb") as sink:

                def copy_block(block: bytes, sink: BinaryIO = sink) -> None:
                    nonlocal done_bytes
                    sink.write(block)
                    done_bytes += len(block)
                    progress(min(done_bytes, total_bytes), total_bytes)

                _, sha256 = hash_file(files[entry.path], copy_block)
            if sha256 != entry.sha256:
                raise Refused(entry.path, "changed while it was being published")

    def link(self, files: Mapping[str, Path]) -> bool:
        """Take the files in without a second copy of their bytes; False where the file system can't."""
        for entry in self._manifest.files:
            target = self.folder / entry.path
            make_dirs(target.parent)
            try:
                os.link(files[entry.path], target)
            except OSError:
                return False
        return True

    def present(self) -> dict[str, int]:
        """How many bytes of each file an earlier try brought here."""
        found = {}
        for entry in self._manifest.files:
            file = self.folder / entry.path
            if file.is_file() and not file.is_symlink() and file.stat().st_nlink == 1:
                found[entry.path] = file.stat().st_size
        return found

    def receive(self, path: str, offset: int, size_bytes: int, stream: BinaryIO) -> None:
        """Put `size_bytes` of `stream` into a file from `offset` on, where it ends then. Raises Refused for a file
        that isn't of this version, RepositoryError if `stream` ends early, OSError."""
        if path not in {entry.path for entry in self._manifest.files}:
            raise Refused(path, "is no file of this version")
        target = self.folder / path
        make_dirs(target.parent)
        if not offset:
            target.unlink(missing_ok=True)  # it may be a link to somebody else's bytes
        with target.open("r+b" if target.exists() else "wb") as sink:
            sink.truncate(offset)
            sink.seek(offset)
            while size_bytes:
                block = stream.read(min(BLOCK_BYTES, size_bytes))
                if not block:
                    raise RepositoryError("the connection ended within a file")
                sink.write(block)
                size_bytes -= len(block)

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

    def finish(
        self, version: str | None = None, canary_percent: float | None = None, terms: Terms = NO_TERMS
    ) -> Outcome:
        """Put the version in place and let the refs name it; `version` None counts up. Raises Refused, RefsConflict,
        OSError: then nothing of what serves has changed."""
        layout, name, digest = self._layout, self._manifest.model, self._manifest.digest
        _tidy(self.folder, self._manifest.files)
        with locked(layout, name):
            existing = find_by_manifest(layout, self._manifest)
            if existing is not None and existing.is_whole:  # another author put it there meanwhile
                return settle(layout, self._manifest, existing, canary_percent, terms)
            version = free_version(layout, name, version)
            self._put(version)
            try:
                self._sync()
                return name_it(layout, name, Ref(version, digest), canary_percent, terms)
            except (OSError, RepositoryError):
                self._take_back(version)
                raise

    def place(self, version: str) -> None:
        """Put the version in place without naming it. Raises OSError."""
        _tidy(self.folder, self._manifest.files)
        with locked(self._layout, self._manifest.model):
            self._put(version)
            self._sync()

    def _put(self, version: str) -> None:
        layout, name = self._layout, self._manifest.model
        write_aside(self.folder / MANIFEST_NAME, replace(self._manifest, version=version).to_json())
        make_dirs(layout.versions(name))
        self._stack.close()  # the model's lock suffices from here on, and some systems rename no folder in use
        (self.folder / _LOCK_NAME).unlink()
        sync_folder(self.folder)
        self.folder.rename(layout.version(name, version))

    def _sync(self) -> None:
        sync_folder(self._layout.versions(self._manifest.model))
        sync_folder(self._layout.incoming(self._manifest.model))

    def mend(self, existing: Existing, canary_percent: float | None = None, terms: Terms = NO_TERMS) -> Outcome:
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
            return settle(layout, self._manifest, existing, canary_percent, terms)

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
                sync_file(file, folder.parent)
            elif not path.startswith(_LOCK_NAME):
                file.unlink()
        Path(directory).chmod(folder_mode(folder.parent))
        sync_folder(Path(directory))
