"""Delays and faults of the EFS stand-in: what every operation goes through first. In the server's process."""

import errno
import fnmatch
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mfusepy

_LOOK_AGAIN_S = 0.05  # how often a hung operation looks whether its caller was killed
_SIGKILL_BIT = 1 << (9 - 1)


@dataclass(frozen=True)
class Conduct:
    """How the mount behaves at present. `faults`: {"operation", "path", "effect"}, the first two as patterns."""

    latency_s: float = 0.0
    read_latency_s: float = 0.0
    bytes_per_s: float | None = None
    faults: list[dict[str, str]] = field(default_factory=list)

    def effect(self, operation: str, path: str) -> str | None:
        for fault in self.faults:
            if fnmatch.fnmatch(operation, fault["operation"]) and fnmatch.fnmatch(path, fault["path"]):
                return fault["effect"]
        return None


class Faults:
    """`enter` and `transfer` on libfuse's threads, many at a time; the rest on the control thread."""

    def __init__(self) -> None:
        self._conduct = Conduct()
        self._changed = threading.Condition()
        self._pace = threading.Lock()
        self._link_free_at = 0.0
        self._counts: Counter[str] = Counter()
        self._bytes_read = 0
        self._hanging = 0

    def behave(self, **changes: Any) -> None:
        """Change the fields of Conduct that are named; what hangs looks whether it still must."""
        with self._changed:
            self._conduct = Conduct(**{**vars(self._conduct), **changes})
            self._changed.notify_all()

    def counts(self) -> dict[str, int]:
        """Operations so far by name, `bytes_read`, and how many are `hanging` now."""
        return {**self._counts, "bytes_read": self._bytes_read, "hanging": self._hanging}

    def enter(self, operation: str, path: str) -> None:
        """Wait as long as `operation` takes at present. Raises FuseOSError where it is to fail."""
        conduct = self._conduct
        self._counts[operation] += 1
        effect = conduct.effect(operation, path)
        if effect == "hang":
            effect = self._hang(operation, path)
        if effect is not None:
            raise mfusepy.FuseOSError(getattr(errno, effect))
        delay_s = conduct.read_latency_s if operation in ("read", "write") else conduct.latency_s
        if delay_s:
            time.sleep(delay_s)

    def transfer(self, n_bytes: int, *, read: bool) -> None:
        """Wait until `n_bytes` have passed the link, which all readers and writers share."""
        self._bytes_read += n_bytes if read else 0
        rate = self._conduct.bytes_per_s
        if rate is None or not n_bytes:
            return
        with self._pace:
            self._link_free_at = max(self._link_free_at, time.monotonic()) + n_bytes / rate
            wait_s = self._link_free_at - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)

    def _hang(self, operation: str, path: str) -> str | None:
        """Wait until the fault is lifted. As on a hard NFS mount, only the caller's death ends it before that."""
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


def _killed(thread_id: int) -> bool:
    """Whether SIGKILL waits for that thread. Thread 0 (the kernel's own read-ahead) and unknown ones are alive."""
    try:
        lines = Path(f"/proc/{thread_id}/status").read_text().splitlines()
    except OSError:
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask & _SIGKILL_BIT for mask in pending)
