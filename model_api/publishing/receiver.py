"""The far side of `publish --to`: answers JSON lines on standard input until that ends.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from model_api.errors import ModelApiError, Refused, RepositoryError
from model_api.publishing.changes import Outcome, check_before_copy, init, locked, read_refs
from model_api.publishing.moves import take_back, take_down
from model_api.publishing.same_content import Existing, find_existing, settle
from model_api.publishing.terms import Terms
from model_api.publishing.upload import Upload
from model_api.repository.environment import status_dir
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.statuses import Status, prune_statuses, read_statuses


def main(arguments: Sequence[str]) -> int:
    """Serve one author. `arguments` is the store's path."""
    layout = Layout(Path(arguments[0]))
    with contextlib.ExitStack() as stack:
        receiver = Receiver(layout, status_dir() or layout.statuses, stack)
        for line in sys.stdin.buffer:
            try:
                question = json.loads(line)
                if question["do"] == "file":
                    receiver.receive(question, sys.stdin.buffer)
                    continue
                _answer(receiver.answer(question))
            except Refused as error:
                _answer({"refused": error.reason, "path": error.path})
            except BlockingIOError:
                _answer({"error": "another upload of this very content is under way, or its connection lingers"})
            except (ModelApiError, OSError) as error:
                _answer({"error": str(error)})
                if question["do"] == "file":
                    return 1  # the rest of its bytes is still coming
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
        self._name, self._terms = "", Terms()
        self._published: Outcome | None = None
        self._existing: Existing | None = None  # a version with this content, to be mended
        self._missing: Sequence[FileEntry] = ()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Raises Refused, other RepositoryError, OSError."""
        if question["do"] == "begin":
            return self._begin(question)
        if question["do"] == "finish" and self._upload is not None:
            self._upload.verify(self._missing, _show)
            terms, canary = replace(self._terms, statuses=read_statuses(self._status_dir)), self._order["canary"]
            if self._existing is not None:
                return self._outcome(self._upload.mend(self._existing, canary, terms))
            return self._outcome(self._upload.finish(self._order["version"], canary, terms))
        if question["do"] == "take down":
            statuses = {one.instance: one for one in map(Status.from_raw, question["statuses"])}
            take_down(self._layout, self._name, replace(self._terms, statuses=statuses, expected=None))
            return {}
        if question["do"] == "take back" and self._published is not None:
            published, terms = self._published, replace(self._terms, expected=None)
            move = take_back(self._layout, self._name, published.before, published.ref, question["why"], terms)
            return {"before": move.before.to_json(), "after": move.after.to_json()}
        statuses_now = read_statuses(self._status_dir).values()
        refs = read_refs(self._layout, self._name).to_json()
        return {"statuses": [status.to_raw() for status in statuses_now], "refs": refs}

    def receive(self, header: Mapping[str, Any], stream: BinaryIO) -> None:
        """Take the bytes of one file from `stream`. Raises RepositoryError, OSError."""
        if self._upload is None:
            raise RepositoryError("a file came before anything was begun")
        self._upload.receive(header["path"], header["offset"], header["size"], stream)

    def _begin(self, order: Mapping[str, Any]) -> dict[str, Any]:
        manifest = Manifest.from_json(order["manifest"])
        if order["init"]:
            init(self._layout.root, bool(order["terms"].get("force")))
        mount_check(self._layout.root)
        self._name = manifest.model
        self._terms = Terms(**order["terms"])
        terms = replace(self._terms, statuses=read_statuses(self._status_dir))
        self._existing = existing = find_existing(self._layout, manifest, _show)
        with locked(self._layout, manifest.model):
            if existing is not None and existing.is_whole:
                return self._outcome(settle(self._layout, manifest, existing, order["canary"], terms))
            if existing is None:
                check_before_copy(self._layout, manifest, order["version"], order["canary"], terms)
        self._order = order
        self._upload = self._stack.enter_context(Upload(self._layout, manifest, token=f"resumable-{manifest.digest}"))
        self._missing = self._upload.take_blobs() if existing is None else existing.wrong
        self._upload.require_room(self._missing)
        return {"send": [entry.path for entry in self._missing], "have": self._upload.present()}

    def _outcome(self, outcome: Outcome) -> dict[str, Any]:
        prune_statuses(self._status_dir)
        self._published, ref = outcome, outcome.ref
        return {
            "version": ref.version,
            "digest": ref.digest,
            "changed": outcome.changed,
            "message": outcome.message,
            "warnings": list(outcome.warnings),
        }
