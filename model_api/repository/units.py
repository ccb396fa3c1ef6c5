"""Bytes as a person reads them. Stdlib only, Python 3.9."""

from __future__ import annotations


def mb(n_bytes: int) -> str:
    """Bytes as a person reads them: 438 MB, 1.2 GB, 712 kB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= 10 * scale or (n_bytes >= scale and unit != "GB"):
            return f"{n_bytes / scale:.0f} {unit}"
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} bytes"


def part_of(have_bytes: int, whole_bytes: int) -> str:
    """ "212 of 438 MB", both in the unit of the whole; in bytes where that would show no difference."""
    for unit, scale in (("MB", 10**6), ("kB", 10**3)):
        if whole_bytes >= 10 * scale and have_bytes // scale != whole_bytes // scale:
            return f"{have_bytes // scale} of {whole_bytes // scale} {unit}"
    return f"{have_bytes} of {whole_bytes} bytes"
