"""A file's name that is nearly the one that a load reads: what programs make of it, and people don't see.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import re
from collections.abc import Collection

# What browsers and desktops add to a second copy; and what Notepad appends and Windows' Explorer hides.
_COPY = re.compile(r"( ?\(\d+\)| - copy| copy( \d+)?)(?=\.)")
_APPENDED = re.compile(r"(\.json|\.safetensors)\.(txt|download|json|safetensors)$")


def rename_it(wanted: str, paths: Collection[str]) -> str:
    """The advice to rename such a file beside where `wanted` should lie; "" if there is none."""
    folder, _, name = wanted.rpartition("/")
    for path in sorted(paths):
        above, _, other = path.rpartition("/")
        if above == folder and other != name and _plain(other) == _plain(name):
            return f"rename {other!r} to {name}"
    return ""


def _plain(name: str) -> str:
    """Without what was added, in one case."""
    return _APPENDED.sub(r"\1", _COPY.sub("", name.casefold().strip()))
