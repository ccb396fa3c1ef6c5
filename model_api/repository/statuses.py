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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_json import read_json, whole_number
from model_api.repository.files import make_dirs, write_aside
from model_api.repository.refs import Ref

MAX_STATUS_BYTES = 8 * 2**20
_COUNTS_NAME = ".heartbeats.json"
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")  # for a file's name
_DEAD_BEATS = 900  # so many heartbeats of another instance passed over one that stands still


_IN_WORDS = {
    "": "not seen there yet",
    "excluded": "excluded by MODEL_API_MODELS there",
    "silent": "silent, its heartbeat stands still",
}


@dataclass(frozen=True)
class Said:
    """What one instance says of one version. `state` is "serving" (it answers for the name), "ready" (loaded: a canary,
    or about to serve), "loading", "failing" (it is tried again), "refused" (for good), "excluded" (that instance is
    set up not to serve this model) or "" (not a word)."""

    state: str
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        return self.state in ("serving", "ready")

    def __str__(self) -> str:
        return f"{_IN_WORDS.get(self.state, self.state)}{': ' if self.reason else ''}{self.reason}"


@dataclass(frozen=True)
class Status:
    """One instance's report; `models` are as GET /models shows them, each with `since`, without their timelines.
    `heartbeat` grows with every beat: how often the file was written, and the second in which it was touched last.
    `only` are the models that it is set up to serve, None for all. `sim` is the model that answers /sim there where a
    caller names none."""

    instance: str
    heartbeat: int
    models: tuple[Mapping[str, Any], ...]
    only: tuple[str, ...] | None = None
    sim: str | None = None

    def state_of(self, name: str, digest: str) -> str:
        """ "serving" (it answers for the name), "ready" (loaded: a canary, or about to serve), "loading", "failed",
        "refused" as the instance has it; "" if it says nothing of that content."""
        model = self.model(name)
        if model.get("digest") == digest:
            return "serving"
        version = self._version(name, digest)
        return str(version.get("state", "")) if version else ""

    def said_of(self, name: str, ref: Ref) -> Said:
        """What this instance says of one version."""
        if self.only is not None and name not in self.only:
            return Said("excluded")
        state, version = self.state_of(name, ref.digest), self._version(name, ref.digest)
        if state in ("serving", "ready"):
            return Said(state)
        if version is not None:
            reason = str(version.get("reason") or "")
            return Said(state if state in ("loading", "refused") else "failing", reason)
        for refusal in self.model(name).get("refused") or ():
            if isinstance(refusal, dict) and refusal.get("version") == ref.version:
                return Said("refused", str(refusal.get("reason", "")))
        return Said(state)

    def model(self, name: str) -> Mapping[str, Any]:
        """The report on one model, {} if there is none."""
        return next((model for model in self.models if model.get("name") == name), {})

    def _version(self, name: str, digest: str) -> Mapping[str, Any] | None:
        versions = [version for version in self.model(name).get("versions") or () if isinstance(version, dict)]
        return next((version for version in versions if version.get("digest") == digest), None)

    def to_raw(self) -> dict[str, Any]:
        """As it travels in JSON; from_raw reads it."""
        raw = {"instance": self.instance, "heartbeat": self.heartbeat, "models": list(self.models), "sim": self.sim}
        return raw if self.only is None else {**raw, "only": list(self.only)}

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> Status:
        """Raises ValueError, KeyError, TypeError, AttributeError for what isn't a status."""
        models = tuple(model for model in raw.get("models") or () if isinstance(model, dict))
        only = raw.get("only")
        sim = raw.get("sim")
        return cls(
            str(raw["instance"]),
            whole_number(raw["heartbeat"], "heartbeat", 0, 2**62),
            models,
            None if only is None else tuple(str(name) for name in only),
            None if sim is None else str(sim),
        )


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
        status = Status.from_raw(read_json(file, MAX_STATUS_BYTES))
        touched = int(file.stat().st_mtime)  # fresh: the file was opened just now
        return replace(status, heartbeat=status.heartbeat + touched)
    except (OSError, Refused, ValueError, KeyError, TypeError, AttributeError):
        return None


def prune_statuses(status_dir: Path) -> list[str]:
    """Remove the statuses of instances that are dead, and return their names: while such a heartbeat stood still, some
    other instance's has moved on by `_DEAD_BEATS`. The instances' own beats are the clock, so however many commands
    run in a row, none that lives is taken for dead, and with nobody alive nothing is removed. A status folder that
    this author may not write is left alone."""
    removed: list[str] = []
    with contextlib.suppress(OSError):
        if not os.access(status_dir, os.W_OK):
            return removed
        counts_file = status_dir / _COUNTS_NAME
        beats, before = _read_counts(counts_file)
        statuses = read_statuses(status_dir)
        moved = {i: s.heartbeat - before[i][0] for i, s in statuses.items() if i in before}
        beats += max([0, *moved.values()])
        seen: dict[str, list[int]] = {}
        for instance, status in statuses.items():
            stands_still_since = before[instance][1] if moved.get(instance) == 0 else beats
            if beats - stands_still_since >= _DEAD_BEATS:
                remove_status(status_dir, instance)
                removed.append(instance)
            else:
                seen[instance] = [status.heartbeat, stands_still_since]
        if seen or before:
            write_aside(counts_file, json.dumps({"beats": beats, "seen": seen}) + "\n")
    return removed


def _read_counts(file: Path) -> tuple[int, dict[str, tuple[int, int]]]:
    """How many beats went by over all looks; and of each instance its heartbeat, and at which beat it last moved."""
    try:
        raw = read_json(file, MAX_STATUS_BYTES)
        return int(raw["beats"]), {str(i): (int(seen[0]), int(seen[1])) for i, seen in raw["seen"].items()}
    except (OSError, Refused, ValueError, TypeError, KeyError, AttributeError, IndexError):
        return 0, {}
