"""Stale names of the EFS stand-in: what an NFS client goes on believing after the server has changed it.

In the server's process. Paths are as the kernel passes them, "/models/m"; handles are O_PATH descriptors.
"""

import contextlib
import errno
import fnmatch
import os
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mfusepy

Attributes = dict[str, Any]
Listing = list[tuple[str, Attributes, int]]


@dataclass
class _Name:
    """What the client knows of a path: a handle of the file that it meant when asked, or None if it wasn't there."""

    handle: int | None
    asked_at: float
    attributes: Attributes | None = None
    listing: Listing | None = None


class Beliefs:
    """At first nothing is believed, and all answers are fresh. Any thread."""

    def __init__(self, backing: str) -> None:
        self._backing = backing
        self._for_s = 0.0
        self._pattern = "*"
        self._names: dict[str, _Name] = {}
        self._lock = threading.RLock()

    def believe(self, for_s: float, pattern: str) -> None:
        """From now on answers about paths like `pattern` are believed for `for_s` seconds; what was, is forgotten."""
        with self._lock:
            self._for_s, self._pattern = for_s, pattern
            self.forget_tree("/")

    def real(self, path: str) -> str:
        """Where `path` lies at present."""
        return self._backing + path

    @contextlib.contextmanager
    def resolved(self, path: str) -> Iterator[str]:
        """A path that opens what the client means by `path`. Raises ENOENT, or ESTALE for a file deleted since."""
        with self._lock:
            name = self._name(path)
            if name is None:
                yield self.real(path)
                return
            if name.handle is None:
                raise mfusepy.FuseOSError(errno.ENOENT)
            if os.fstat(name.handle).st_nlink == 0:
                raise mfusepy.FuseOSError(errno.ESTALE)
            name.attributes = None  # close-to-open: an open asks for the attributes afresh
            yield f"/proc/self/fd/{name.handle}"

    def attributes(self, path: str) -> Attributes:
        """Raises FileNotFoundError, or FuseOSError of the same."""
        with self._lock:
            name = self._name(path)
            if name is None:
                return _attributes(os.lstat(self.real(path)))
            if name.handle is None:
                raise mfusepy.FuseOSError(errno.ENOENT)
            if name.attributes is None:
                name.attributes = _attributes(os.fstat(name.handle))
            return name.attributes

    def listing(self, path: str) -> Listing:
        with self._lock:
            name = self._name(path)
            if name is None:
                return _listing(self.real(path))
            if name.listing is None:
                name.listing = _listing(self.real(path))
            return name.listing

    def forget(self, path: str) -> None:
        """What this client changes itself it knows at once."""
        with self._lock:
            name = self._names.pop(path, None)
            if name is not None and name.handle is not None:
                os.close(name.handle)

    def forget_tree(self, root: str) -> None:
        """`root` and everything below it."""
        with self._lock:
            below = root.rstrip("/") + "/"
            for path in [path for path in self._names if path == root or path.startswith(below)]:
                self.forget(path)

    def _name(self, path: str) -> _Name | None:
        """What is believed of `path`, asked now if need be; None where nothing is."""
        if not self._for_s or not fnmatch.fnmatch(path, self._pattern):
            return None
        name = self._names.get(path)
        if name is not None and time.monotonic() < name.asked_at + self._for_s:
            return name
        self.forget(path)
        try:
            handle = os.open(self.real(path), os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            handle = None
        name = self._names[path] = _Name(handle, time.monotonic())
        return name


def _attributes(status: os.stat_result) -> Attributes:
    known = {key: getattr(status, key) for key in ("st_mode", "st_nlink", "st_uid", "st_gid", "st_size", "st_ino")}
    times = {key: getattr(status, f"{key}_ns") for key in ("st_atime", "st_mtime", "st_ctime")}
    return {**known, **times, "st_blocks": status.st_blocks}


def _listing(folder: str) -> Listing:
    """Names with their inode numbers: libfuse leaves out an entry whose number is 0."""
    with os.scandir(folder) as entries:
        own = [(entry.name, {"st_ino": entry.inode(), "st_mode": _kind(entry)}, 0) for entry in entries]
    here = {"st_ino": os.stat(folder).st_ino, "st_mode": stat.S_IFDIR}
    return [(".", here, 0), ("..", here, 0), *own]


def _kind(entry: os.DirEntry[str]) -> int:
    if entry.is_symlink():
        return stat.S_IFLNK
    return stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
