"""Writes that survive a crash (whole or not at all, and readable by every uid), locks, and hashes of files.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

fcntl: Any
try:
    import fcntl
except ImportError:  # an author's Windows
    fcntl = None

BLOCK_BYTES = 4 * 2**20

# What a new folder or file takes over from the folder above: set-group-ID (so the group stays), and group write.
_INHERITED_OF_FOLDER = stat.S_ISGID | stat.S_IWGRP
_INHERITED_OF_FILE = stat.S_IWGRP
_PATIENCE_S = 10.0  # how long to wait for a lock that doesn't go with its process


def folder_mode(parent: Path) -> int:
    """rwxr-xr-x and what is inherited from `parent`, whatever the author's umask says."""
    return 0o755 | (parent.stat().st_mode & _INHERITED_OF_FOLDER)


def file_mode(parent: Path) -> int:
    """rw-r--r-- and what is inherited from `parent`."""
    return 0o644 | (parent.stat().st_mode & _INHERITED_OF_FILE)


def make_dirs(folder: Path) -> None:
    """`folder` and what is missing above it, each on disk before the next; those that exist stay as they are."""
    if folder.is_dir():
        return
    make_dirs(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(folder_mode(folder.parent))
    sync_folder(folder.parent)


def give_mode(descriptor: int, parent: Path) -> None:
    """Make an open file in `parent` readable by every uid, where files have modes."""
    if hasattr(os, "fchmod"):
        os.fchmod(descriptor, file_mode(parent))


def sync_file(file: Path, parent: Path) -> None:
    """Put a file that is written on disk, readable by every uid; `parent` is whose modes it takes over."""
    with file.open("rb" if hasattr(os, "O_DIRECTORY") else "r+b") as stream:
        if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) != file_mode(parent):  # a shared file may be another's
            give_mode(stream.fileno(), parent)
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk, where a folder can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Put the entries of the folder, and of all below it, on disk."""
    for directory, _, _ in os.walk(folder, topdown=False):
        sync_folder(Path(directory))


def write_aside(file: Path, text: str, owner: str = "") -> None:
    """Replace `file` in one step. One writer at a time (callers hold a lock, or own the folder, or name themselves as
    `owner`): the name beside it is always the same, so that a dead writer's leftover is overwritten by the next."""
    aside = file.with_name(f".{file.name}.{owner}new")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            give_mode(stream.fileno(), file.parent)
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


@contextlib.contextmanager
def locked_file(path: Path, wait: bool) -> Iterator[BinaryIO]:
    """Hold an advisory lock on `path`, which is opened for appending. The lock goes with its process, however that
    ends. Raises BlockingIOError if somebody else holds it and `wait` is false."""
    if fcntl is None:
        with _held_file(path, wait), path.open("ab") as stream:
            yield stream
        return
    with path.open("ab") as stream:
        if stream.tell() == 0 and os.fstat(stream.fileno()).st_uid == os.geteuid():
            give_mode(stream.fileno(), path.parent)
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield stream


@contextlib.contextmanager
def _held_file(path: Path, wait: bool) -> Iterator[None]:
    """A lock for systems without flock: a file beside `path` that only one can create. It outlives a killed process,
    so whoever waits in vain is told which file to remove. Raises BlockingIOError."""
    held = path.with_name(f"{path.name}.held")
    until_s = time.monotonic() + (_PATIENCE_S if wait else 0.0)
    while True:
        try:
            with held.open("x", encoding="utf-8") as stream:
                stream.write(f"process {os.getpid()} on {socket.gethostname()}")
            break
        except FileExistsError:
            if time.monotonic() >= until_s:
                owner = "somebody"
                with contextlib.suppress(OSError):
                    owner = held.read_text("utf-8") or owner
                why = f"locked by {owner}; if that has ended, remove this file"
                raise BlockingIOError(errno.EAGAIN, why, str(held)) from None
        time.sleep(0.1)
    try:
        yield
    finally:
        held.unlink(missing_ok=True)


def hash_file(file: Path, on_block: Callable[[bytes], object] = lambda block: None) -> tuple[int, str]:
    """Size and sha256 of what reading gives now; `on_block` sees each block on the way. Raises OSError."""
    sha256, n_bytes = hashlib.sha256(), 0
    with file.open("rb", buffering=0) as stream:
        while block := stream.read(BLOCK_BYTES):
            sha256.update(block)
            n_bytes += len(block)
            on_block(block)
    return n_bytes, sha256.hexdigest()
