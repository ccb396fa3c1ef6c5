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
from model_api.publishing.changes import Outcome, check_before_copy, init, locked, settle_existing
from model_api.publishing.upload import Upload
from model_api.repository.environment import status_dir
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import Manifest
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


class Receiver:
    """What one connection is at. Single-threaded."""

    def __init__(self, layout: Layout, status_dir: Path, stack: contextlib.ExitStack) -> None:
        self._layout, self._status_dir, self._stack = layout, status_dir, stack
        self._upload: Upload | None = None
        self._order: Mapping[str, Any] = {}

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Refused, other RepositoryError, OSError."""
        if question["do"] == "begin":
            return self._begin(question)
        if question["do"] == "finish" and self._upload is not None:
            self._upload.verify(lambda done, total: _answer({"progress": [done, total]}))
            return self._outcome(self._upload.finish(self._order["version"], self._order["canary"]))
        statuses = read_statuses(self._status_dir).values()
        return {
            "statuses": [{"instance": s.instance, "heartbeat": s.heartbeat, "models": list(s.models)} for s in statuses]
        }

    def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        manifest = Manifest.from_json(order["manifest"])
        if order["init"]:
            init(self._layout.root)
        mount_check(self._layout.root)
        with locked(self._layout, manifest.model):
            settled = settle_existing(self._layout, manifest, order["canary"])
            if settled is None:
                check_before_copy(self._layout, manifest, order["version"], order["canary"])
        if settled is not None:
            return self._outcome(settled)
        self._order = order
        self._upload = self._stack.enter_context(Upload(self._layout, manifest, token=f"resumable-{manifest.digest}"))
        self._upload.require_room()
        return {"folder": str(self._upload.folder)}

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        prune_statuses(self._status_dir)
        ref = outcome.ref
        return {"version": ref.version, "digest": ref.digest, "changed": outcome.changed, "message": outcome.message}
