"""What an author's folder is, and everything that is wrong with it, told at once.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.file_kinds import is_document
from model_api.repository.folder_files import is_excluded, list_files
from model_api.repository.loaded_files import VOCABULARY_FILE
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from model_api.repository.model_folder import Judgement, judge
from model_api.repository.problem import Problem
from model_api.repository.sentence_modules import MODULES_FILE

_MENDS_MANIFEST = "or leave it out with --exclude manifest.json"


@dataclass(frozen=True)
class Inspection:
    """`sealed` is the folder's own manifest.json, `options` what holds with it and what the author gave."""

    folder: Path
    files: Mapping[str, Path]
    judgement: Judgement
    problems: Sequence[Problem]
    sealed: Manifest | None
    options: Mapping[str, Any]

    def require_servable(self) -> None:
        """Raises Refused with the first problem, and how many more there are."""
        if not self.problems:
            return
        first = self.problems[0]
        more = len(self.problems) - 1
        note = f" (and {more} more: scripts/publish --check {shlex.quote(str(self.folder))} tells all)" if more else ""
        refused = first.error()
        raise type(refused)(first.path, first.reason + note)

    def excludes(self) -> list[str]:
        """What --exclude must name so that nothing is left of those problems that leaving files out mends."""
        return list(dict.fromkeys(problem.exclude for problem in self.problems if problem.exclude))

    def notes(self) -> tuple[str, ...]:
        """What the author should know though nothing is wrong."""
        notes = []
        if self.sealed is not None:
            options = ", ".join(f"{key}={value}" for key, value in self.sealed.options.items()) or "no options"
            probes = f"{len(self.sealed.probes)} probes"
            notes.append(
                f"{MANIFEST_NAME} of {self.sealed.model}@{self.sealed.version} lies there: its task"
                f" ({self.sealed.task}), {options} and {probes} hold where nothing else is given"
            )
        embeds = self.judgement.task in ("embedding", "extractive-summarization")
        if embeds and MODULES_FILE not in self.files and "pooling" not in self.options:
            notes.append(
                f"no {MODULES_FILE}: a text's vector will be its [CLS] state. sentence-transformers takes the mean of"
                " such a folder; choose with --option pooling=mean or pooling=cls"
            )
        unread = [path for path in self.judgement.unread if not is_document(path) and path != VOCABULARY_FILE]
        if unread:
            notes.append(f"copied, though no load reads it: {', '.join(unread[:8])}{' ...' * (len(unread) > 8)}")
        return tuple(notes)


def inspect(
    folder: Path, task: str | None = None, options: Mapping[str, Any] | None = None, exclude: Sequence[str] = ()
) -> Inspection:
    """Look at names, headers and JSON files; hashes nothing. Raises Refused for what is no model's folder, OSError."""
    _check_folder(folder)
    problems: list[Problem] = []
    files = list_files(folder, exclude, on_problem=problems.append)
    sealed = None
    try:
        sealed = _read_sealed(folder, task, exclude)
    except Refused as error:
        problems.append(Problem(MANIFEST_NAME, f"{error.reason}; mend it, {_MENDS_MANIFEST}", MANIFEST_NAME))
    merged = {**(sealed.options if sealed else {}), **(options or {})}
    merged = {key: value for key, value in merged.items() if value is not None}
    judgement = judge(files, task or (sealed.task if sealed else None), merged)
    return Inspection(folder, files, judgement, [*problems, *judgement.problems], sealed, merged)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise Refused("", f"{folder} is not a folder; give the model's folder or a Hugging Face snapshot")
    if (folder / "snapshots").is_dir() and (folder / "blobs").is_dir():
        snapshots = sorted(str(path) for path in (folder / "snapshots").iterdir())
        raise Refused("", f"{folder} is a Hugging Face cache; give one of its snapshots: {', '.join(snapshots)}")


def _read_sealed(folder: Path, task: str | None, exclude: Sequence[str]) -> Manifest | None:
    file = folder / MANIFEST_NAME
    if is_excluded(MANIFEST_NAME, exclude) or not file.exists():
        return None
    sealed = Manifest.from_json(read_bounded(file.resolve(), MAX_MANIFEST_BYTES))
    if task is not None and sealed.task != task:
        raise Refused(MANIFEST_NAME, f"it says task {sealed.task}, the command says {task}")
    return sealed
