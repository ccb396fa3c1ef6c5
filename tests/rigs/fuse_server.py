"""The process behind fuse_efs.py: passes a folder through FUSE, with an EFS mount's delays and faults.

usage: python -m tests.rigs.fuse_server BACKING MOUNTPOINT ATTRIBUTE_CACHE_S

Reads commands from stdin, one JSON object a line, and answers each with one line on stdout; the first line is "ready"
once mounted. At the end of stdin it unmounts and exits, so a killed test leaves no mount behind.
What changes in BACKING directly is what another client of the file system did.
"""

import contextlib
import ctypes
import errno
import fnmatch
import json
import os
import stat
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

Attributes = dict[str, Any]
Listing = list[tuple[str, Attributes, int]]
_LOOK_AGAIN_S = 0.05  # how often a hung operation looks whether its caller was killed
_SIGKILL_BIT = 1 << (9 - 1)


@dataclass
class Name:
    """What the client knows of a path: an open handle of the file that it meant, or None if it wasn't there."""

    handle: int | None
    asked_at: float
    attributes: Attributes | None = None
    listing: Listing | None = None


@dataclass
class Conduct:
    """How the mount behaves at present. Replaced as a whole; `changed` wakes what hangs."""

    latency_s: float = 0.0
    read_latency_s: float = 0.0
    bytes_per_s: float | None = None
    stale_s: float = 0.0
    stale_path: str = "*"
    faults: list[dict[str, str]] = field(default_factory=list)

    def believes(self, path: str) -> bool:
        """Whether what was once asked about `path` is believed for stale_s."""
        return self.stale_s > 0 and fnmatch.fnmatch(path, self.stale_path)

    def effect(self, operation: str, path: str) -> str | None:
        for fault in self.faults:
            if fnmatch.fnmatch(operation, fault["operation"]) and fnmatch.fnmatch(path, fault["path"]):
                return fault["effect"]
        return None


class EfsLike(mfusepy.Operations):  # type: ignore[misc]
    """Pass-through operations. Called on libfuse's threads, many at a time."""

    use_ns = True

    def __init__(self, backing: str) -> None:
        self._backing = backing
        self._conduct = Conduct()
        self._changed = threading.Condition()
        self._pace = threading.Lock()
        self._link_free_at = 0.0
        self._names: dict[str, Name] = {}
        self._names_lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._bytes_read = 0
        self._hanging = 0

    # Control, on the control thread.

    def behave(self, **changes: Any) -> None:
        with self._changed:
            self._conduct = Conduct(**{**vars(self._conduct), **changes})
            self._changed.notify_all()
        if "stale_s" in changes:
            self._forget(None)

    def counts(self) -> dict[str, int]:
        return {**self._counts, "bytes_read": self._bytes_read, "hanging": self._hanging}

    # Delays and faults, at the start of every operation.

    def _enter(self, operation: str, path: str, latency_s: float | None = None) -> None:
        self._counts[operation] += 1
        effect = self._conduct.effect(operation, path)
        if effect == "hang":
            effect = self._hang(operation, path)
        if effect is not None:
            raise mfusepy.FuseOSError(getattr(errno, effect))
        delay_s = self._conduct.latency_s if latency_s is None else latency_s
        if delay_s:
            time.sleep(delay_s)

    def _hang(self, operation: str, path: str) -> str | None:
        """Wait until the fault is lifted. As on a hard NFS mount, only SIGKILL ends the caller's wait before that."""
        caller = mfusepy.fuse_get_context()[2]
        with self._changed:
            self._hanging += 1
            try:
                while (effect := self._conduct.effect(operation, path)) == "hang":
                    self._changed.wait(_LOOK_AGAIN_S)
                    if _killed(caller):
                        return "EINTR"
                return effect
            finally:
                self._hanging -= 1

    def _transfer(self, n_bytes: int) -> None:
        """All readers and writers share one link of the rate asked for."""
        rate = self._conduct.bytes_per_s
        if rate is None or not n_bytes:
            return
        with self._pace:
            self._link_free_at = max(self._link_free_at, time.monotonic()) + n_bytes / rate
            wait_s = self._link_free_at - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)

    # Names and attributes, which an NFS client may believe for a while after the server has changed them.

    def _real(self, path: str) -> str:
        return self._backing + path

    @contextlib.contextmanager
    def _resolved(self, path: str) -> Iterator[str]:
        """A path that opens what the client means by `path`. Raises ENOENT, or ESTALE for a file gone since."""
        if not self._conduct.believes(path):
            yield self._real(path)
            return
        with self._names_lock:
            name = self._name(path)
            if name.handle is None:
                raise mfusepy.FuseOSError(errno.ENOENT)
            if os.fstat(name.handle).st_nlink == 0:
                raise mfusepy.FuseOSError(errno.ESTALE)
            yield f"/proc/self/fd/{name.handle}"

    def _name(self, path: str) -> Name:
        name = self._names.get(path)
        if name is not None and time.monotonic() < name.asked_at + self._conduct.stale_s:
            return name
        self._forget(path)
        try:
            handle = os.open(self._real(path), os.O_PATH | os.O_NOFOLLOW)
        except FileNotFoundError:
            handle = None
        name = Name(handle, time.monotonic())
        self._names[path] = name
        return name

    def _forget(self, *paths: str | None) -> None:
        """Drop what is known of `paths`, of everything for None. What this client itself changes it knows at once."""
        with self._names_lock:
            for path in list(self._names) if None in paths else paths:
                name = self._names.pop(path, None) if path is not None else None
                if name is not None and name.handle is not None:
                    os.close(name.handle)

    def getattr(self, path: str, fh: int | None = None) -> Attributes:
        self._enter("getattr", path)
        if not self._conduct.believes(path):
            return _attributes(os.lstat(self._real(path)))
        with self._names_lock:
            name = self._name(path)
            if name.handle is None:
                raise mfusepy.FuseOSError(errno.ENOENT)
            if name.attributes is None:
                name.attributes = _attributes(os.fstat(name.handle))
            return name.attributes

    # Reading.

    def open(self, path: str, flags: int) -> int:
        self._enter("open", path)
        with self._resolved(path) as real:
            handle = os.open(real, flags & ~os.O_NOFOLLOW)
        with self._names_lock:  # close-to-open: an open asks for the attributes afresh
            if path in self._names:
                self._names[path].attributes = None
        return handle

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._enter("read", path, self._conduct.read_latency_s)
        data = os.pread(fh, size, offset)
        self._bytes_read += len(data)
        self._transfer(len(data))
        return data

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def readdir(self, path: str, fh: int) -> Listing:
        self._enter("readdir", path)
        if not self._conduct.believes(path):
            return _listing(self._real(path))
        with self._names_lock:
            name = self._name(path)
            if name.listing is None:
                name.listing = _listing(self._real(path))
            return name.listing

    def readlink(self, path: str) -> str:
        self._enter("readlink", path)
        return os.readlink(self._real(path))

    def statfs(self, path: str) -> dict[str, int]:
        self._enter("statfs", path)
        known = os.statvfs(self._backing)
        return {key: getattr(known, key) for key in dir(known) if key.startswith("f_") and key != "f_fsid"}

    # Writing.

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._enter("create", path)
        self._forget(path)
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._enter("write", path, self._conduct.read_latency_s)
        self._transfer(len(data))
        return os.pwrite(fh, data, offset)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._enter("fsync", path)
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
        self._forget(source)
        return self._change("link", target, lambda real: os.link(self._real(source), real))

    def rename(self, old: str, new: str) -> int:
        self._forget(None)  # everything below a renamed folder has another name now
        return self._change("rename", old, lambda real: os.rename(real, self._real(new)))

    def _change(self, operation: str, path: str, change: Any) -> int:
        self._enter(operation, path)
        self._forget(path)
        change(self._real(path))
        return 0


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


def _killed(thread_id: int) -> bool:
    """Whether SIGKILL waits for that thread. Pid 0 (the kernel's own read-ahead) and unknown ones count as alive."""
    try:
        lines = Path(f"/proc/{thread_id}/status").read_text().splitlines()
    except OSError:
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask & _SIGKILL_BIT for mask in pending)


def _detach(mountpoint: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(mountpoint), 2)  # MNT_DETACH: also while files are open


def _control(operations: EfsLike, mountpoint: str) -> None:
    """The control thread: obey until stdin ends, then leave nothing mounted."""
    for line in sys.stdin:
        command = json.loads(line)
        operations.behave(**command)
        print(json.dumps(operations.counts()), flush=True)
    operations.behave(faults=[])
    _detach(mountpoint)
    os._exit(0)


class _Announcing(EfsLike):
    def __init__(self, backing: str, mountpoint: str) -> None:
        super().__init__(backing)
        self._mountpoint = mountpoint

    def init(self, path: str) -> None:
        threading.Thread(target=_control, args=(self, self._mountpoint), daemon=True).start()
        print("ready", flush=True)


def main() -> None:
    backing, mountpoint, attribute_cache_s = sys.argv[1:4]
    # The kernel's own cache of names is off, and that of attributes short: staleness is played here, on command.
    # max_threads: as many operations may hang without stopping those of other paths.
    mfusepy.FUSE(
        _Announcing(backing, mountpoint),
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
