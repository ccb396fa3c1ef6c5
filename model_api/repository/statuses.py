"""What each instance serves, as it says itself in `<status dir>/<instance>.json`.

Alive is who keeps counting: a heartbeat that moved between two looks. No clocks are compared. A file is written
anew only when there is something new to say; in between a beat is a touch, the cheapest thing that others can see.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json, whole_number
from model_api.repository.files import make_dirs, write_aside

MAX_STATUS_BYTES = 8 * 2**20
_COUNTS_NAME = ".heartbeats.json"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")  # for a file's name
_MISSED_PUBLISHES = 2  # a heartbeat that stood still between that many publishes and one more belongs to the dead


@dataclass(frozen=True)
class Status:
    """One instance's report; `models` are as GET /models shows them, each with `since`, without their timelines.
    `heartbeat` grows with every beat: how often the file was written, and the second in which it was touched last."""

    instance: str
    heartbeat: int
    models: tuple[Mapping[str, Any], ...]

    def state_of(self, name: str, digest: str) -> str:
        """ "serving" (it answers for the name), "ready" (loaded: a canary, or about to serve), "loading", "failed",
        "refused" as the instance has it; "" if it says nothing of that content."""
        model = self.model(name)
        if model.get("digest") == digest:
            return "serving"
        versions = [version for version in model.get("versions") or () if isinstance(version, dict)]
        return next((str(version.get("state", "")) for version in versions if version.get("digest") == digest), "")

    def model(self, name: str) -> Mapping[str, Any]:
        """The report on one model, {} if there is none."""
        return next((model for model in self.models if model.get("name") == name), {})


def write_status(status_dir: Path, instance: str, document: Mapping[str, Any]) -> None:
    """Replace this instance's status by `document` ({"models": [...]}) with the heartbeat counted up. One writer per
    instance: the poller's thread. Raises OSError; serving goes on without a status folder."""
    make_dirs(status_dir)
    file = status_dir / f"{_file_stem(instance)}.json"
    told = {**document, "instance": instance, "heartbeat": _written(file) + 1}
    write_aside(file, json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")


def beat_status(status_dir: Path, instance: str) -> None:
    """The status that was written holds, and its instance lives. Raises OSError, FileNotFoundError if it is gone."""
    os.utime(status_dir / f"{_file_stem(instance)}.json")


def remove_status(status_dir: Path, instance: str) -> None:
    """Sign off at shutdown. Raises OSError."""
    (status_dir / f"{_file_stem(instance)}.json").unlink(missing_ok=True)


def _file_stem(instance: str) -> str:
    return _UNFIT.sub("_", instance).lstrip(".")[:120] or "_"


def read_statuses(status_dir: Path) -> dict[str, Status]:
    """Every status that can be read, by instance; files that can't be understood are left out. Raises OSError, but
    not for a folder that isn't there: then nobody reports."""
    try:
        files = sorted(path for path in status_dir.iterdir() if path.suffix == ".json" and path.name[0] != ".")
    except FileNotFoundError:
        return {}
    statuses = (_parse(file) for file in files)
    return {status.instance: status for status in statuses if status is not None}


def _written(file: Path) -> int:
    """How often the status was written anew so far."""
    try:
        return whole_number(read_json(file, MAX_STATUS_BYTES)["heartbeat"], "heartbeat", 0, 2**62)
    except (OSError, Refused, ValueError, KeyError, TypeError):
        return 0


def _parse(file: Path) -> Status | None:
    try:
        raw = read_json(file, MAX_STATUS_BYTES)
        models = tuple(model for model in raw.get("models") or () if isinstance(model, dict))
        written = whole_number(raw["heartbeat"], "heartbeat", 0, 2**62)
        touched = int(file.stat().st_mtime)  # fresh: the file was opened just now
        return Status(str(raw["instance"]), written + touched, models)
    except (OSError, Refused, ValueError, KeyError, TypeError, AttributeError):
        return None


def prune_statuses(status_dir: Path) -> list[str]:
    """Remove the statuses of instances whose heartbeat hasn't moved over the last few calls (one per publish), and
    return their names. An instance that lives after all writes a new one with its next heartbeat. A status folder that
    this author may not write is left alone."""
    removed: list[str] = []
    with contextlib.suppress(OSError):
        if not os.access(status_dir, os.W_OK):
            return removed
        counts_file = status_dir / _COUNTS_NAME
        try:
            counts = dict(read_json(counts_file, MAX_STATUS_BYTES))
        except (FileNotFoundError, Refused, ValueError, TypeError):
            counts = {}
        now: dict[str, list[int]] = {}
        for instance, status in read_statuses(status_dir).items():
            before = counts.get(instance)
            same = isinstance(before, list) and len(before) == 2 and before[0] == status.heartbeat
            missed = int(before[1]) + 1 if same and before is not None else 0
            if missed >= _MISSED_PUBLISHES:
                remove_status(status_dir, instance)
                removed.append(instance)
            else:
                now[instance] = [status.heartbeat, missed]
        if now or counts:
            write_aside(counts_file, json.dumps(now) + "\n")
    return removed
