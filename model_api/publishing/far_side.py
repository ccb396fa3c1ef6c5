"""A publish on another host: JSON lines to the receiver there, and the files' bytes between them.

A transfer that breaks off resumes: the far side says how much of each file it has, and everything is hashed at the end.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import Any

from model_api.errors import Refused, RepositoryError
from model_api.publishing.changes import Outcome
from model_api.publishing.commands.following import taken_back_in_words
from model_api.publishing.commands.progress import ProgressLine
from model_api.publishing.commands.waiting import Sight
from model_api.publishing.draft import Draft
from model_api.publishing.moves import Move
from model_api.publishing.ssh import Target
from model_api.publishing.terms import Terms
from model_api.repository.files import BLOCK_BYTES
from model_api.repository.refs import Ref, Refs
from model_api.repository.statuses import Status


class FarSide:
    """A context manager; leaving it ends the far process, and with it its lock."""

    def __init__(self, target: Target) -> None:
        """Raises RepositoryError with the cause and what to do."""
        self._host = target.host
        self._far = target.start("publishing.receiver", [target.path])
        self._begun = False

    def __enter__(self) -> FarSide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._far.end()

    def publish(
        self, made: Draft, version: str | None, canary_percent: float | None, init: bool, terms: Terms
    ) -> Outcome:
        """Send the draft and put it in place. The same content resumes where an earlier try broke off. Raises Refused,
        RepositoryError, OSError."""
        order = {"manifest": made.manifest.to_json(), "version": version, "canary": canary_percent, "init": init}
        with ProgressLine("comparing") as line:
            told = self._ask({"do": "begin", **order, "terms": terms.to_raw()}, line)
        if "send" in told:
            self._begun = True
            self._send_files(made, told["send"], told["have"])
            with ProgressLine("verifying") as line:
                told = self._ask({"do": "finish"}, line)
        ref = Ref(told["version"], told["digest"])
        return Outcome(ref, bool(told["changed"]), str(told["message"]), tuple(told["warnings"]))

    def sight(self) -> Sight:
        """What lies in the store there now."""
        told = self._ask({"do": "sight"})
        statuses = [Status.from_raw(raw) for raw in told["statuses"]]
        return Sight(Refs.from_json(told["refs"]), {status.instance: status for status in statuses})

    def take_down(self, statuses: Mapping[str, Status]) -> None:
        """Write down there what the instances say."""
        self._ask({"do": "take down", "statuses": [status.to_raw() for status in statuses.values()]})

    def take_back(self, outcome: Outcome, why: str) -> str:
        """Undo the publish; what came of it, in words."""
        told = self._ask({"do": "take back", "why": why})
        return taken_back_in_words(Move(Refs.from_json(told["before"]), Refs.from_json(told["after"])), outcome)

    def _ask(self, question: Mapping[str, Any], line: ProgressLine | None = None) -> dict[str, Any]:
        try:
            self._far.stdin.write(json.dumps(question).encode() + b"\n")
            self._far.stdin.flush()
        except BrokenPipeError:
            pass  # its last words are in stdout
        for raw in self._far.stdout:
            answer: dict[str, Any] = json.loads(raw)
            if "progress" in answer:
                if line is not None:
                    line.show(*answer["progress"])
            elif "refused" in answer:
                raise Refused(answer["path"], answer["refused"])
            elif "error" in answer:
                raise RepositoryError(f"{self._host}: {answer['error']}")
            else:
                return answer
        resume = "; run the command again to resume" if self._begun else "; nothing changed there"
        raise RepositoryError(f"{self._host}: the connection ended (exit {self._far.end()}){resume}")

    def _send_files(self, made: Draft, paths: Collection[str], have: Mapping[str, int]) -> None:
        """The missing bytes of each of `paths`, from wherever they are; links of a Hugging Face cache are followed."""
        entries = [entry for entry in made.manifest.files if entry.path in paths]
        done_bytes, total_bytes = 0, sum(entry.size_bytes for entry in entries)
        with ProgressLine("sending") as line:
            for entry in entries:
                offset = have.get(entry.path, 0)
                offset = offset if offset <= entry.size_bytes else 0
                done_bytes += offset
                left_bytes = entry.size_bytes - offset
                header = {"do": "file", "path": entry.path, "offset": offset, "size": left_bytes}
                try:
                    self._far.stdin.write(json.dumps(header).encode() + b"\n")
                    with made.files[entry.path].open("rb", buffering=0) as stream:
                        stream.seek(offset)
                        while left_bytes:
                            block = stream.read(min(BLOCK_BYTES, left_bytes))
                            if not block:
                                raise Refused(entry.path, "became shorter while it was being published")
                            self._far.stdin.write(block)
                            left_bytes -= len(block)
                            done_bytes += len(block)
                            line.show(done_bytes, total_bytes)
                except BrokenPipeError:
                    return  # the next question tells why
