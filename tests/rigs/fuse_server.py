"""The process behind fuse_efs.py: passes a folder through FUSE, with an EFS mount's delays and faults.

usage: python -m tests.rigs.fuse_server BACKING MOUNTPOINT ATTRIBUTE_CACHE_S

Reads commands from stdin, one JSON object a line, and answers each with one line on stdout; the first line is "ready"
once mounted. At the end of stdin it unmounts and exits, so a killed test leaves no mount behind.
What changes in BACKING directly is what another client of the file system did.
"""

import ctypes
import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import mfusepy

from tests.rigs.fuse_beliefs import Attributes, Beliefs, Listing
from tests.rigs.fuse_faults import Faults

_MNT_DETACH = 2


class EfsLike(mfusepy.Operations):  # type: ignore[misc]
    """Pass-through operations. Called on libfuse's threads, many at a time."""

    use_ns = True

    def __init__(self, backing: str, mountpoint: str) -> None:
        self._backing = backing
        self._mountpoint = mountpoint
        self._faults = Faults()
        self._beliefs = Beliefs(backing)

    def init(self, path: str) -> None:
        threading.Thread(target=self._obey, daemon=True).start()
        print("ready", flush=True)

    def _obey(self) -> None:
        """The control thread: obey until stdin ends, then leave nothing mounted."""
        for line in sys.stdin:
            command = json.loads(line)
            if "stale_s" in command:
                self._beliefs.believe(command.pop("stale_s"), command.pop("stale_path"))
            self._faults.behave(**command)
            print(json.dumps(self._faults.counts()), flush=True)
        self._faults.behave(faults=[])
        ctypes.CDLL(None).umount2(os.fsencode(self._mountpoint), _MNT_DETACH)
        os._exit(0)

    # Reading.

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        self._faults.enter("getattr", path)
        return self._beliefs.attributes(path)

    def open(self, path: str, flags: int) -> int:
        self._faults.enter("open", path)
        with self._beliefs.resolved(path) as real:
            return os.open(real, flags & ~os.O_NOFOLLOW)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._faults.enter("read", path)
        data = os.pread(fh, size, offset)
        self._faults.transfer(len(data), read=True)
        return data

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def readdir(self, path: str, fh: int) -> Listing:
        self._faults.enter("readdir", path)
        return self._beliefs.listing(path)

    def readlink(self, path: str) -> str:
        self._faults.enter("readlink", path)
        return os.readlink(self._beliefs.real(path))

    def statfs(self, path: str) -> dict[str, int]:
        self._faults.enter("statfs", path)
        known = os.statvfs(self._backing)
        return {key: getattr(known, key) for key in dir(known) if key.startswith("f_") and key != "f_fsid"}

    # Writing.

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._faults.enter("create", path)
        self._beliefs.forget(path)
        return os.open(self._beliefs.real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._faults.enter("write", path)
        self._faults.transfer(len(data), read=False)
        return os.pwrite(fh, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._faults.enter("fsync", path)
        os.fsync(fh)
        return 0

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        return self._change("truncate", path, lambda real: os.truncate(real, length))

    def unlink(self, path: str) -> int:
        return self._change("unlink", path, os.unlink)

    def rmdir(self, path: str) -> int:
        return self._change("rmdir", path, os.rmdir)

    def mkdir(self, path: str, mode: int) -> int:
        return self._change("mkdir", path, lambda real: os.mkdir(real, mode))

    def chmod(self, path: str, mode: int) -> int:
        return self._change("chmod", path, lambda real: os.chmod(real, mode))

    def chown(self, path: str, uid: int, gid: int) -> int:
        return self._change("chown", path, lambda real: os.chown(real, uid, gid))

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        return self._change("utimens", path, lambda real: os.utime(real, ns=times) if times else os.utime(real))

    def symlink(self, target: str, source: str) -> int:
        return self._change("symlink", target, lambda real: os.symlink(source, real))

    def link(self, target: str, source: str) -> int:
        self._beliefs.forget(source)
        return self._change("link", target, lambda real: os.link(self._beliefs.real(source), real))

    def rename(self, old: str, new: str) -> int:
        self._beliefs.forget_tree(old)
        self._beliefs.forget_tree(new)
        return self._change("rename", old, lambda real: os.rename(real, self._beliefs.real(new)))

    def _change(self, operation: str, path: str, change: Callable[[str], object]) -> int:
        self._faults.enter(operation, path)
        self._beliefs.forget(path)
        change(self._beliefs.real(path))
        return 0


def main() -> None:
    backing, mountpoint, attribute_cache_s = sys.argv[1:4]
    # The kernel's own cache of names is off, and that of attributes short: staleness is played here, on command.
    # max_threads: as many operations may hang without stopping those of other paths.
    mfusepy.FUSE(
        EfsLike(backing, mountpoint),
        mountpoint,
        foreground=True,
        allow_other=True,
        default_permissions=True,
        attr_timeout=float(attribute_cache_s),
        entry_timeout=0,
        negative_timeout=0,
        ac_attr_timeout=0,
        auto_cache=True,
        use_ino=True,
        max_threads=64,
        fsname="efs-stand-in",
    )


if __name__ == "__main__":
    main()
