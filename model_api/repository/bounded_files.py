"""Small files that anybody may have written, read without trusting what lies under their names.

Never through a symbolic link, never waiting for a pipe's writer, never more than the caller's bound.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.units import mb

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bounded(file: Path, max_bytes: int) -> bytes:
    """The content of a regular file. Raises Refused naming it if it is something else or longer than `max_bytes`
    (then little or nothing of it was read); OSError."""
    try:
        descriptor = os.open(file, _FLAGS | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and file.is_symlink():
            raise Refused(file.name, "a symbolic link, not a file; put the file itself there") from None
        if error.errno == errno.ENXIO:
            raise Refused(file.name, "a socket, not a file") from None
        raise
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(info.st_mode)), "something else")
            raise Refused(file.name, f"{kind}, not a file")
        if info.st_size > max_bytes:
            raise Refused(file.name, f"{mb(info.st_size)} long; at most {mb(max_bytes)} are read")
        blocks: list[bytes] = []
        left_bytes = max_bytes + 1
        while left_bytes > 0 and (block := os.read(descriptor, min(left_bytes, 2**20))):
            blocks.append(block)
            left_bytes -= len(block)
    finally:
        os.close(descriptor)
    if left_bytes <= 0:
        raise Refused(file.name, f"longer than {mb(max_bytes)}, and growing")
    return b"".join(blocks)
