"""A stand-in for an EFS mount, with the delays and faults of one on command. Needs root, fuse3 and mfusepy.

    with fuse_efs(tmp_path) as efs:
        (efs.backing / "model").write_text("...")   # as another client of the file system
        (efs.root / "model").read_text()            # as this instance sees it
        efs.hang("/model")                          # from now on every operation on it hangs ...
        efs.heal()                                  # ... until now

What it can't show: mappings and locks as NFS has them (nfs_machine.py does), and anything about the network.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.needs import needs, needs_root
from tests.rigs.project import ROOT

_ANSWER_TIMEOUT_S = 10.0


class FuseEfs:
    """One mount. Its methods are for one thread; paths in faults are as seen from the root ("/models/*")."""

    def __init__(self, backing: Path, root: Path, attribute_cache_s: float) -> None:
        self.backing = backing
        self.root = root
        self._attribute_cache_s = attribute_cache_s
        self._conduct: dict[str, Any] = {}
        self._server: subprocess.Popen[str] | None = None
        self._connection = Path()

    def mount(self) -> None:
        """Mount, again after unmount(); conduct and faults are as they were."""
        assert self._server is None, "is mounted"
        arguments = [str(self.backing), str(self.root), str(self._attribute_cache_s)]
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.rigs.fuse_server", *arguments],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the test, which then unmounts in order
        )
        assert self._line() == "ready\n", "the FUSE server did not mount; its stderr says why"
        self._connection = Path("/sys/fs/fuse/connections") / str(os.minor(self.root.stat().st_dev))
        self._command(self._conduct)

    def unmount(self) -> None:
        """The mount is gone: the mount point is an empty folder. Whoever hung in it gets an error."""
        assert self._server is not None, "is not mounted"
        # Aborting first frees every hung caller, and a dead server can't keep the mount busy.
        with suppress(OSError):
            (self._connection / "abort").write_text("1")
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        try:
            self._server.wait(_ANSWER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait(_ANSWER_TIMEOUT_S)
        self._server.stdout.close()
        self._server = None
        subprocess.run(["umount", "--lazy", self.root], check=False, stderr=subprocess.DEVNULL)

    def lose_server(self) -> None:
        """The server dies and the mount stays: every operation fails with ENOTCONN, until unmount() and mount()."""
        assert self._server is not None
        self._server.send_signal(signal.SIGKILL)
        self._server.wait(_ANSWER_TIMEOUT_S)

    def behave(self, *, latency_s: float = 0.0, read_latency_s: float = 0.0, bytes_per_s: float | None = None) -> None:
        """Delay per operation on names and attributes, per read or write, and a rate that all transfers share."""
        self._command({"latency_s": latency_s, "read_latency_s": read_latency_s, "bytes_per_s": bytes_per_s})

    def stale(self, for_s: float, path: str = "*") -> None:
        """What is asked about paths like `path` (names, absence, attributes, listings) is believed for `for_s` seconds.

        A new call forgets what was believed; `for_s` 0: nothing is.

        An open of a name finds the file that it named then, or ESTALE where that is deleted.
        """
        self._command({"stale_s": for_s, "stale_path": path})

    def hang(self, path: str = "*", operation: str = "*") -> None:
        """`operation`s (read, open, getattr, readdir ...) on paths like `path` hang; only death ends a caller's wait.

        A hanging "getattr" also holds up other names of the same folder: through Debian 12's libfuse the kernel looks
        up one name of a folder at a time.
        """
        self._add_fault(path, operation, "hang")

    def fail(self, error: str, path: str = "*", operation: str = "*") -> None:
        """They fail with `error`: "EIO", "ESTALE" ..."""
        self._add_fault(path, operation, error)

    def heal(self) -> None:
        """No fault any more; what hangs goes on."""
        self._command({"faults": []})

    def counts(self) -> Mapping[str, int]:
        """Operations so far by name, `bytes_read`, and how many are `hanging` now."""
        return self._command({})

    def _add_fault(self, path: str, operation: str, effect: str) -> None:
        fault = {"path": path, "operation": operation, "effect": effect}
        self._command({"faults": [*self._conduct.get("faults", []), fault]})

    def _command(self, changes: Mapping[str, Any]) -> dict[str, int]:
        self._conduct.update(changes)
        if self._server is None:
            return {}
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(changes) + "\n")
        self._server.stdin.flush()
        counts: dict[str, int] = json.loads(self._line())
        return counts

    def _line(self) -> str:
        server = self._server
        assert server is not None
        assert server.stdout is not None
        watchdog = threading.Timer(_ANSWER_TIMEOUT_S, server.kill)
        watchdog.start()
        try:
            return server.stdout.readline()
        finally:
            watchdog.cancel()


@contextmanager
def fuse_efs(folder: Path, *, attribute_cache_s: float = 0.0) -> Iterator[FuseEfs]:
    """Mount `folder`/efs over `folder`/efs-backing (both made if absent); unmounted at the end, whatever hangs."""
    needs_root("mounting with allow_other")
    needs("/dev/fuse")
    needs("fusermount3")
    backing, root = folder.absolute() / "efs-backing", folder.absolute() / "efs"
    backing.mkdir(parents=True, exist_ok=True)
    root.mkdir(exist_ok=True)
    efs = FuseEfs(backing, root, attribute_cache_s)
    efs.mount()
    try:
        yield efs
    finally:
        if efs._server is not None:
            efs.unmount()
