"""What this machine's processor can do. No torch here: the web process asks too."""

import os
from pathlib import Path

PRECISIONS = ("float32", "bfloat16", "int8")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # x86, x86, arm64


def available_cores() -> int:
    """Cores that this process may run on, which in a container is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def yield_the_processor() -> None:
    """For a process whose forwards take seconds: a request that takes milliseconds must not wait behind it."""
    os.nice(10)


def choose_precision(asked: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """ "auto" becomes bfloat16 where the processor multiplies it, else float32; the others stay as they are.

    Raises ValueError for any other word.
    """
    if asked in PRECISIONS:
        return asked
    if asked != "auto":
        raise ValueError(f"precision {asked!r} is none of auto, {', '.join(PRECISIONS)}")
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return "float32"
    return "bfloat16" if words & _BFLOAT16_FLAGS else "float32"
