"""Model folders that were copied by scp or rsync, with nobody to say when the copy is whole.

A folder's first copy is taken on evidence: its structure is whole and nothing about its files (inode, size, mtime,
ctime) has changed for settle_s, by this process's own clock. A later change is taken only with a SHA256SUMS or
manifest.json that matches every file, because evidence can't see an overwrite that stopped half-way at equal sizes.
Until then what was taken first keeps its name.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import Refused
from model_api.repository import inspection
from model_api.repository.bounded_files import read_bounded
from model_api.repository.files import hash_file
from model_api.repository.known_tasks import memory_bytes
from model_api.repository.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    SHA256_PATTERN,
    FileEntry,
    Manifest,
    check_path,
)
from model_api.repository.model_folder import SUMS_NAME, check_files, infer_task_of, is_excluded, list_files
from model_api.repository.safetensors_header import Tensor

Signature = Mapping[str, tuple[int, int, int, int]]  # path -> inode, size, mtime ns, ctime ns
SEAL_SETTLED_LOOKS = 2  # a seal is checked once the files were the same in this many looks: a growing one isn't hashed
QUICK_JSON_BYTES = 2**20


class Changed(OSError):
    """A file changed while it was read; look again later."""


@dataclass(frozen=True)
class Accepted:
    """Content of a plain folder that was found whole, and what its files looked like then."""

    manifest: Manifest
    signature: Signature


@dataclass
class PlainFolder:
    """What one observer knows of one plain folder. Used by the poller thread only."""

    name: str
    accepted: Accepted | None = None
    reason: str = ""  # why the folder's present content isn't (or isn't yet) served
    seen: Signature | None = None
    same_since_s: float = 0.0
    same_looks: int = 0
    problem: str = ""  # what a quick check of `seen` found
    judged: Signature | None = None  # the signature to which `verdict` belongs
    verdict: str = ""

    def look(self, folder: Path, now_s: float, settle_s: float) -> Callable[[], Manifest] | None:
        """One look. Returns the work that decides (reading and hashing every file: slow), if it is time for it;
        give its outcome to `decided`. Raises OSError."""
        signature = take_signature(folder)
        if signature != self.seen:
            self.seen, self.same_since_s, self.same_looks = signature, now_s, 0
            self.problem = self._quick_check(folder)
        self.same_looks += 1
        if self.accepted is not None and self.accepted.signature == signature:
            self.reason = ""
            return None
        if self.judged == signature:
            self.reason = self.verdict
            return None
        sealed, same_s = is_sealed(signature), now_s - self.same_since_s
        ready = same_s >= settle_s
        if self.problem:
            self.reason, ready = self.problem, False
        elif sealed:
            self.reason, ready = "being compared with its checksums", self.same_looks >= SEAL_SETTLED_LOOKS
        elif self.accepted is not None:
            self.reason = self._what_to_do()  # it is hashed all the same: a touch or a chmod changes no content
        else:
            waited_s = min(same_s, settle_s)
            self.reason = (
                f"unchanged for {waited_s:.0f} of {settle_s:.0f} s, then it is taken; at once with a SHA256SUMS"
            )
        return (lambda: inspection.hash_folder(self.name, folder, signature)) if ready else None

    def _quick_check(self, folder: Path) -> str:
        problem = inspection.quick_problem(folder)
        return f"{problem}{self._keeps()}" if problem else ""

    def _keeps(self) -> str:
        return "; the earlier content keeps serving" if self.accepted is not None else ""

    def _what_to_do(self) -> str:
        return (
            "changed since it was taken; the earlier content keeps serving. When the copy is complete, run"
            f" scripts/publish --seal {self.name} (or add a SHA256SUMS)"
        )

    def decided(self, outcome: Manifest | Refused, signature: Signature) -> None:
        """Take the outcome of the work for a folder that looked like `signature`. Poller thread."""
        if isinstance(outcome, Manifest):
            sealed = is_sealed(signature)
            same = self.accepted is not None and self.accepted.manifest.digest == outcome.digest
            if sealed or same or self.accepted is None:
                self.accepted, self.judged, self.reason = Accepted(outcome, signature), None, ""
                return
            self.verdict = self._what_to_do()
        else:
            self.verdict = f"{outcome}{self._keeps()}"
        self.judged, self.reason = signature, self.verdict


def look_for_problems(folder: Path) -> str:
    """What is plainly wrong or missing, "" if nothing. Leaves large JSON to hash_folder. Raises OSError."""
    try:
        files = list_files(folder, links=False)
        check_files(files, max_json_bytes=QUICK_JSON_BYTES)
        infer_task_of(files)
    except Refused as error:
        return str(error)
    return ""


def is_sealed(signature: Signature) -> bool:
    """Does the folder hold checksums of its own?"""
    return SUMS_NAME in signature or MANIFEST_NAME in signature


def take_signature(folder: Path) -> Signature:
    """What all files of the folder look like now, hidden ones too (rsync writes into those). Raises OSError."""
    signature: dict[str, tuple[int, int, int, int]] = {}

    def visit(directory: Path, prefix: str) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                info = os.lstat(entry.path)  # not entry.stat(): a directory listing may bring stale attributes along
                if stat.S_ISDIR(info.st_mode):
                    if not (not prefix and entry.name in (".incoming", ".trash")):
                        visit(Path(entry.path), prefix + entry.name + "/")
                elif not (not prefix and entry.name == ".lock"):
                    signature[prefix + entry.name] = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    visit(folder, "")
    return signature


def hash_folder(name: str, folder: Path, signature: Signature) -> Manifest:
    """Check the folder, read and hash every file, and compare with its seal if it has one. Slow, and it parses what a
    stranger wrote: instances do it in an inspector. Raises Refused if it must not be served, Changed if it changed
    meanwhile, other OSError."""
    entries, tensors, task = _hash_unchanged(folder, signature)
    sealed = check_seal(folder, entries)
    manifest = sealed or Manifest(name, "plain", task, entries, memory_bytes(tensors, task))
    if take_signature(folder) != signature:
        raise Changed("changed while it was compared with its checksums")
    return replace(manifest, model=name, version=manifest.digest)


def hash_folder_entries(folder: Path, signature: Signature) -> Sequence[FileEntry]:
    """The folder's files with their hashes, once its structure is found whole. Raises as hash_folder."""
    return _hash_unchanged(folder, signature)[0]


def _hash_unchanged(folder: Path, signature: Signature) -> tuple[tuple[FileEntry, ...], list[Tensor], str]:
    try:
        if take_signature(folder) != signature:
            raise Changed("changed while it was looked at")
        files = list_files(folder, links=False)
        tensors = check_files(files)
        task = infer_task_of(files)
        entries = tuple(FileEntry(path, *hash_file(file)) for path, file in files.items())
    except (Refused, FileNotFoundError) as error:
        if isinstance(error, Refused) and take_signature(folder) == signature:
            raise
        raise Changed("changed while it was looked at") from None
    if take_signature(folder) != signature:
        raise Changed("changed while it was hashed; it is still being copied")
    return entries, tensors, task


def check_seal(folder: Path, entries: Sequence[FileEntry], exclude: Sequence[str] = ()) -> Manifest | None:
    """Compare with SHA256SUMS and manifest.json; returns the latter. What `exclude` names is left out on both sides.
    Raises Refused naming the first difference."""
    have = {entry.path: entry.sha256 for entry in entries}
    sums, manifest = folder / SUMS_NAME, folder / MANIFEST_NAME
    if sums.exists() and not is_excluded(SUMS_NAME, exclude):
        _compare(have, parse_sums(sums.read_text("utf-8", "replace")), SUMS_NAME, exclude)
    if not manifest.exists() or is_excluded(MANIFEST_NAME, exclude):
        return None
    sealed = Manifest.from_json(read_bounded(manifest, MAX_MANIFEST_BYTES))
    _compare(have, {entry.path: entry.sha256 for entry in sealed.files}, MANIFEST_NAME, exclude)
    return sealed


def _compare(have: Mapping[str, str], listed: Mapping[str, str], seal: str, exclude: Sequence[str]) -> None:
    for path in sorted({*have, *listed}):
        if path not in have:
            if is_excluded(path, exclude):
                continue
            raise Refused(path, f"missing; {seal} lists it")
        if path not in listed:
            raise Refused(path, f"not in {seal}; write that anew when the copy is complete")
        if have[path] != listed[path]:
            raise Refused(path, f"does not match {seal}")


def parse_sums(text: str) -> dict[str, str]:
    """path -> sha256 from the lines of sha256sum, without the describing files. Raises Refused naming SHA256SUMS."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        sha256, _, path = line.partition(" ")
        path = path[1:] if path[:1] in (" ", "*") else path
        path = path[2:] if path.startswith("./") else path
        if not SHA256_PATTERN.fullmatch(sha256) or not path:
            raise Refused(SUMS_NAME, f"line {line[:80]!r} is not from sha256sum")
        if path not in (SUMS_NAME, MANIFEST_NAME) and not path.startswith("."):
            sums[check_path(path)] = sha256
    if not sums:
        raise Refused(SUMS_NAME, "lists no files")
    return sums
