"""The processes of a server under test: found by a mark in their environment, which every child inherits.

So a server that forks, spawns or lets children be adopted is still counted whole, and ended whole.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

MARK = "BENCH_MARK"
_PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
# A process that ends between two reads: gone, or a zombie with nothing to read.
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def marked(mark: str) -> list[int]:
    """Process ids whose environment holds MARK=`mark`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(*_GONE):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return sorted(found)


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of all together: a page shared by n processes counts 1/n in each."""
    total = 0
    for pid in pids:
        with suppress(*_GONE):
            for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def cpu_s(pids: Iterable[int]) -> float:
    """Processor seconds used by these processes so far."""
    total = 0
    for pid in pids:
        with suppress(*_GONE):
            fields = (_PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])  # utime, stime
    return total / _TICKS_PER_S


def wait_idle(mark: str, timeout_s: float, window_s: float = 0.3, busy_share: float = 0.1) -> bool:
    """Wait until the server has nothing to do; True if that came about.

    Idle is less than `busy_share` of one core over `window_s`.
    """
    deadline = time.monotonic() + timeout_s
    pids = marked(mark)
    before = cpu_s(pids)
    while time.monotonic() < deadline:
        time.sleep(window_s)
        after = cpu_s(pids)
        if after - before < busy_share * window_s:
            return True
        before = after
    return False


class PeakMemory:
    """Samples the PSS of a server on a thread of its own; `peak_bytes` is the largest sum seen."""

    def __init__(self, pids: Callable[[], Iterable[int]], period_s: float = 0.5) -> None:
        self.peak_bytes = 0
        self._pids = pids
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="peak-memory", daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._thread.join()

    def sample(self) -> None:
        self.peak_bytes = max(self.peak_bytes, pss_bytes(self._pids()))

    def _run(self) -> None:
        while not self._stopping.wait(self._period_s):
            self.sample()
