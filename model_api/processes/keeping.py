"""What lets model processes outlive a web process: somebody above it who starts the next one, and a place to meet.

The keeper is gunicorn's arbiter. It becomes the parent of every fork server, whoever started it, so these end when the
arbiter ends, and not when a web process does. A web process finds the living fork server by a socket in the keeper's
folder, which this user alone can enter.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
SUCCESSOR_TIMEOUT_S = 20.0  # model processes wait so long for the next web process, and then end
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_LONGEST_ADDRESS = 107  # bytes of a Unix socket's path


@dataclass(frozen=True)
class Keeper:
    """`code` is the version of the code that its web processes run: only model processes of the same are kept."""

    pid: int
    folder: Path
    code: str

    @property
    def address(self) -> str:
        """Where the fork server listens."""
        return str(self.folder / "fork-server")


_keeper: Keeper | None = None


def keep_model_processes() -> None:
    """Make this process the keeper of what its children's children start. Before it forks the first web process.
    Elsewhere than on Linux nothing is kept."""
    global _keeper
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    folder = tempfile.mkdtemp(prefix="model-api-")
    if len(os.fsencode(folder)) > _LONGEST_ADDRESS - 50:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="model-api-", dir="/tmp")
    _keeper = Keeper(os.getpid(), Path(folder), code_version())


def stop_keeping() -> None:
    """The keeper ends."""
    global _keeper
    if _keeper is not None and _keeper.pid == os.getpid():
        shutil.rmtree(_keeper.folder, ignore_errors=True)
        _keeper = None


def keeper() -> Keeper | None:
    """Of this process, if it has one above it that keeps model processes."""
    return _keeper if _keeper is not None and os.getppid() == _keeper.pid else None


def code_version() -> str:
    """Of the code on the disk: a hash over its files' names, sizes and times. Milliseconds."""
    hashed = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        with contextlib.suppress(FileNotFoundError):  # it is being replaced: the version is another one then
            stat = path.stat()
            hashed.update(f"{path.relative_to(PACKAGE)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return hashed.hexdigest()
