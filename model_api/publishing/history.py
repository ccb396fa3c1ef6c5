"""Who changed what serves, when, from where and why: models/<name>/.history.jsonl, a line for each change.

A line is written before the change that it tells of and carries the generation that the change makes, so what a killed
command only meant to do is told from what was done. Times are the author's own clock, for people.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from model_api.publishing.terms import Terms
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import parse_json
from model_api.repository.files import give_mode, write_aside
from model_api.repository.layout import Layout
from model_api.repository.refs import Canary, Ref, Refs

KEPT_ENTRIES = 500  # a file twice as long is cut to these, the latest
_MAX_BYTES = 16 * 2**20


def entry_of(did: str, before: Refs, after: Refs, terms: Terms) -> dict[str, Any]:
    """What `history` will show of a change from `before` to `after`; `did` is the command."""
    entry = {
        "generation": after.generation,
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "did": did,
        "who": terms.author,
        "stable": _version(after.stable),
        "was": _version(before.stable),
        "canary": _version(after.canary),
        "from": terms.source,
        "message": terms.message,
        "forced": terms.force,
    }
    return {key: value for key, value in entry.items() if value not in ("", None, False)}


def _version(ref: Ref | Canary | None) -> str | None:
    return ref.version if ref is not None else None


def append(layout: Layout, name: str, entry: Mapping[str, Any]) -> None:
    """Add one entry, whole or not at all. Under the model's lock. Raises OSError, and then the file is as it was."""
    file = layout.history(name)
    try:
        size_bytes = file.stat().st_size
        text = read_bounded(file, _MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        size_bytes, text = 0, ""
    line = json.dumps(entry, ensure_ascii=False) + "\n"
    if text.count("\n") >= 2 * KEPT_ENTRIES:
        write_aside(file, "".join(text.splitlines(keepends=True)[-KEPT_ENTRIES:]) + line)
        return
    torn = "\n" if text and not text.endswith("\n") else ""  # its writer was killed
    try:
        with file.open("a", encoding="utf-8", newline="\n") as stream:
            if not size_bytes:
                give_mode(stream.fileno(), file.parent)
            stream.write(torn + line)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        _cut(file, size_bytes)
        raise


def _cut(file: Path, size_bytes: int) -> None:
    if size_bytes:
        os.truncate(file, size_bytes)
    else:
        file.unlink(missing_ok=True)


def read(layout: Layout, name: str, generation: int) -> list[dict[str, Any]]:
    """What was done up to `generation`, the oldest first: of entries with the same generation only the last became
    true. Lines that can't be understood are left out. Raises Refused, OSError."""
    try:
        lines = read_bounded(layout.history(name), _MAX_BYTES).decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    done: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            entry = parse_json(line, _MAX_BYTES)
            if int(entry["generation"]) <= generation:
                done[int(entry["generation"])] = entry
        except (ValueError, KeyError, TypeError):
            continue
    return [done[number] for number in sorted(done)]
