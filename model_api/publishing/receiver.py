"""The far side of `publish --to`: answers JSON lines on standard input until that ends.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.errors import ModelApiError, Refused
from model_api.publishing.changes import Outcome, check_before_copy, init, locked
from model_api.publishing.same_content import Existing, find_existing, settle
from model_api.publishing.upload import Upload
from model_api.repository.environment import status_dir
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.statuses import prune_statuses, read_statuses


def main(arguments: Sequence[str]) -> int:
    """Serve one author. `arguments` is the store's path."""
    layout = Layout(Path(arguments[0]))
    with contextlib.ExitStack() as stack:
        receiver = Receiver(layout, status_dir() or layout.statuses, stack)
        for line in sys.stdin.buffer:
            try:
                _answer(receiver.answer(json.loads(line)))
            except Refused as error:
                _answer({"refused": error.reason, "path": error.path})
            except BlockingIOError:
                _answer({"error": "another upload of this very content is under way, or its connection lingers"})
            except (ModelApiError, OSError) as error:
                _answer({"error": str(error)})
    return 0


def _answer(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _show(done_bytes: int, total_bytes: int) -> None:
    _answer({"progress": [done_bytes, total_bytes]})


class Receiver:
    """What one connection is at. Single-threaded."""

    def __init__(self, layout: Layout, status_dir: Path, stack: contextlib.ExitStack) -> None:
        self._layout, self._status_dir, self._stack = layout, status_dir, stack
        self._upload: Upload | None = None
        self._order: Mapping[str, Any] = {}
        self._existing: Existing | None = None  # a version with this content, to be mended
        self._missing: Sequence[FileEntry] = ()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Refused, other RepositoryError, OSError."""
        if question["do"] == "begin":
            return self._begin(question)
        if question["do"] == "finish" and self._upload is not None:
            self._upload.verify(self._missing, _show)
            canary = self._order["canary"]
            if self._existing is not None:
                return self._outcome(self._upload.mend(self._existing, canary))
            return self._outcome(self._upload.finish(self._order["version"], canary))
        statuses = read_statuses(self._status_dir).values()
        return {
            "statuses": [{"instance": s.instance, "heartbeat": s.heartbeat, "models": list(s.models)} for s in statuses]
        }

    def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        manifest = Manifest.from_json(order["manifest"])
        if order["init"]:
            init(self._layout.root)
        mount_check(self._layout.root)
        self._existing = existing = find_existing(self._layout, manifest, _show)
        with locked(self._layout, manifest.model):
            if existing is not None and existing.is_whole:
                return self._outcome(settle(self._layout, manifest, existing, order["canary"]))
            if existing is None:
                check_before_copy(self._layout, manifest, order["version"], order["canary"])
        self._order = order
        self._upload = self._stack.enter_context(Upload(self._layout, manifest, token=f"resumable-{manifest.digest}"))
        self._missing = self._upload.take_blobs() if existing is None else existing.wrong
        self._upload.require_room(self._missing)
        return {"folder": str(self._upload.folder), "send": [entry.path for entry in self._missing]}

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        prune_statuses(self._status_dir)
        ref = outcome.ref
        return {"version": ref.version, "digest": ref.digest, "changed": outcome.changed, "message": outcome.message}
