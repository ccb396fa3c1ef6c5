"""One author at a time, and who that is: a lock that says who holds it, since when and where, and what can be done.

The lock itself goes with its process, however that ends; but one that was stopped (Ctrl-Z, a laptop that sleeps) holds
it for ever. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, BinaryIO

from model_api.errors import RefsConflict
from model_api.publishing.terms import this_author
from model_api.repository import files

# Nothing that waits for a person or for instances is done under a lock; a plain copy is hashed under it.
PATIENCE_S = 300.0
_TELL_AFTER_S = 2.0
_MAX_NOTE_BYTES = 4096


@contextlib.contextmanager
def author_lock(path: Path, what: str, patience_s: float | None = None) -> Iterator[None]:
    """Hold the lock `path`; `what` it is that waits for it, in messages. Waits up to `patience_s` (None: PATIENCE_S)
    while another author holds it, and soon says so on standard error. Raises RefsConflict then, OSError."""
    with contextlib.ExitStack() as stack:
        stream = _wait_for(stack, path, what, PATIENCE_S if patience_s is None else patience_s)
        _note(stream, json.dumps({"who": this_author(), "pid": os.getpid(), "since": time.time()}))
        try:
            yield
        finally:
            _note(stream, "")


def _wait_for(stack: contextlib.ExitStack, path: Path, what: str, patience_s: float) -> BinaryIO:
    began, told, pause_s = time.monotonic(), False, 0.01
    while True:
        try:
            return stack.enter_context(files.locked_file(path, wait=files.fcntl is None))
        except BlockingIOError:
            if files.fcntl is None:  # it has waited already, and says which file to remove
                raise
        waited_s = time.monotonic() - began
        if waited_s >= patience_s:
            raise RefsConflict(f"{what}: {_who(path)}; waited for {waited_s:.0f} s; {_way_out(path)}")
        if waited_s >= _TELL_AFTER_S and not told:
            told = True
            print(f"{what}: {_who(path)}; waiting, for {patience_s:.0f} s at most (Ctrl-C gives up)", file=sys.stderr)
        time.sleep(min(pause_s, max(0.0, patience_s - waited_s)))
        pause_s = min(0.5, pause_s * 1.5)


def _note(stream: BinaryIO, text: str) -> None:
    """For others to read. A full disk, or the like, is no reason to fail: it is said elsewhere."""
    with contextlib.suppress(OSError):
        stream.truncate(0)
        stream.write(text.encode())
        stream.flush()


def _holder(path: Path) -> dict[str, Any]:
    """What its holder noted; {} if it is of an earlier release, or has just begun."""
    with contextlib.suppress(OSError, ValueError), path.open("rb") as stream:
        told = json.loads(stream.read(_MAX_NOTE_BYTES))
        if isinstance(told, dict) and isinstance(told.get("since"), (int, float)):
            return told
    return {}


def _who(path: Path) -> str:
    holder = _holder(path)
    if not holder:
        return "another author's command is at work on it"
    since = datetime.fromtimestamp(min(max(0.0, holder["since"]), 2.0**32), timezone.utc)
    who, pid = (str(holder.get(key))[:100] for key in ("who", "pid"))
    return f"a command of {who} (process {pid}) is at work on it since {since:%Y-%m-%d %H:%M:%S} UTC"


def _way_out(path: Path) -> str:
    pid = str(_holder(path).get("pid", ""))[:100]
    there = f"if it was stopped, `kill -CONT {pid}` there, or end it; " if pid else ""
    return f"{there}if its host is gone, remove {path}"
