"""How much memory there is and who uses it, from /proc and the control group. Values in bytes."""

from collections.abc import Iterable
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int | None:
    """What may be allocated without swapping: the least of the machine's and the control group's. None if unknown."""
    amounts = []
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            amounts.append(int(line.split()[1]) * 1024)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit is not None and used is not None:
        amounts.append(max(0, limit - used))
    return min(amounts) if amounts else None


def proportional_bytes(pids: Iterable[int]) -> int:
    """Sum of the processes' proportional set sizes (a page shared by n counts 1/n); one that is gone counts nothing."""
    total = 0
    for pid in pids:
        for line in _lines(Path(f"/proc/{pid}/smaps_rollup")):
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None
