"""Writes that survive a crash: whole or not at all, and readable by every uid.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

# What a new folder or file takes over from the folder above: set-group-ID (so the group stays), and group write.
_INHERITED_OF_FOLDER = stat.S_ISGID | stat.S_IWGRP
_INHERITED_OF_FILE = stat.S_IWGRP


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


def sync_folder(folder: Path) -> None:
    """Put the folder's entries on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_aside(file: Path, text: str) -> None:
    """Replace `file` in one step. One writer at a time (callers hold a lock, or own the folder): the name beside it is
    always the same, so that a dead writer's leftover is overwritten by the next."""
    aside = file.with_name(f".{file.name}.new")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), file_mode(file.parent))
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)
