"""Model folders that were copied by scp or rsync, with nobody to say when the copy is whole.

A folder's first copy is taken on evidence: its structure is whole and nothing about its files (inode, size, mtime,
ctime) has changed for settle_s, by this process's own clock. A later change is taken only with a SHA256SUMS or
manifest.json that matches every file, because evidence can't see an overwrite that stopped half-way at equal sizes.
Until then what was taken first keeps its name.

Stdlib only, Python 3.9.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_api.errors import Refused
from model_api.repository import inspection
from model_api.repository.checksums import SUMS_NAME
from model_api.repository.folder_signature import Changed, Signature, take_signature
from model_api.repository.manifest import MANIFEST_NAME, Manifest
from model_api.repository.safetensors_header import Incomplete
from model_api.repository.side_work import OnProgress

SEAL_SETTLED_LOOKS = 2  # a seal is checked once the files were the same in this many looks: a growing one isn't hashed
_LAST_RETRY_S = 60.0


@dataclass(frozen=True)
class Accepted:
    """Content of a plain folder that was found whole, and what its files looked like then."""

    manifest: Manifest
    signature: Signature


@dataclass
class PlainFolder:
    """What one observer knows of one plain folder. For one thread at a time."""

    name: str
    accepted: Accepted | None = None
    reason: str = ""  # why the folder's present content isn't (or isn't yet) served
    waiting: bool = False  # nothing is wrong with it: it is still being copied, watched or read
    seen: Signature | None = None
    same_since_s: float = 0.0
    same_looks: int = 0
    problem: str = ""  # what a quick check of `seen` found
    incomplete: bool = False  # `problem` is one that more bytes may mend
    must_check: bool = False  # the quick check of `seen` is still to be made
    judged: Signature | None = None  # the signature to which `verdict` belongs
    verdict: str = ""
    failures: int = 0  # readings of `seen` in a row that couldn't be finished
    retry_at_s: float = 0.0

    def look(self, folder: Path, now_s: float, settle_s: float) -> Callable[[OnProgress], Manifest] | None:
        """One look. Returns the work that decides (reading and hashing every file: slow), if it is time for it;
        give its outcome to `decided`. Raises OSError, and Refused for a folder that isn't looked at to its end."""
        signature = take_signature(folder)
        if signature != self.seen:
            self.seen, self.same_since_s, self.same_looks = signature, now_s, 0
            self.must_check, self.failures = True, 0
        if self.must_check:
            self._quick_check(folder)
        self.same_looks += 1
        self.waiting = False
        if self.accepted is not None and self.accepted.signature == signature:
            self.reason = ""
            return None
        if self.judged == signature:
            self.reason = self.verdict
            return None
        sealed, same_s = is_sealed(signature), now_s - self.same_since_s
        self.waiting = self.accepted is None
        if self.problem:
            self.reason = self.problem
            self.waiting = self.waiting and self.incomplete and same_s < settle_s
            return None
        if self.failures:
            self.waiting = False
            return self._work(folder, signature) if now_s >= self.retry_at_s else None
        if sealed:
            self.reason = "being compared with its checksums"
            ready = self.same_looks >= SEAL_SETTLED_LOOKS
        elif self.accepted is not None:
            self.reason = self._what_to_do()  # it is hashed all the same: a touch or a chmod changes no content
            ready = same_s >= settle_s
        else:
            ready = same_s >= settle_s
            self.reason = (
                f"unchanged for {same_s:.0f} of {settle_s:.0f} s, then it is taken; at once with a SHA256SUMS"
                if not ready
                else "whole; its files are being read, or wait for their turn"
            )
        return self._work(folder, signature) if ready else None

    def _work(self, folder: Path, signature: Signature) -> Callable[[OnProgress], Manifest]:
        return lambda on_progress: inspection.hash_folder(self.name, folder, signature, on_progress)

    def _quick_check(self, folder: Path) -> None:
        """Notes what is plainly wrong or missing."""
        self.problem, self.incomplete, self.must_check = "", False, False
        try:
            inspection.quick_check(folder)
        except Refused as error:
            self.problem, self.incomplete = f"{error}{self._keeps()}", isinstance(error, Incomplete)
        except OSError as error:  # nothing of that shows in the signature, so it is tried again
            self.problem, self.must_check = f"{why_unreadable(error, folder)}{self._keeps()}", True

    def _keeps(self) -> str:
        return "; the earlier content keeps serving" if self.accepted is not None else ""

    def _what_to_do(self) -> str:
        return (
            "changed since it was taken; the earlier content keeps serving. When the copy is complete, run"
            f" scripts/publish --seal {self.name} (or add a SHA256SUMS)"
        )

    def decided(self, outcome: Manifest | Exception, folder: Path, now_s: float) -> None:
        """Take the outcome of the work for the folder as it was `seen`; the thread that looks."""
        signature = self.seen
        assert signature is not None
        self.waiting = False
        if isinstance(outcome, Manifest):
            same = self.accepted is not None and self.accepted.manifest.digest == outcome.digest
            if is_sealed(signature) or same or self.accepted is None:
                self.accepted, self.judged, self.reason = Accepted(outcome, signature), None, ""
                return
            self.verdict = self._what_to_do()
        elif isinstance(outcome, Changed):
            self.waiting = self.accepted is None
            return
        elif isinstance(outcome, OSError):
            self.failures += 1
            self.retry_at_s = now_s + min(_LAST_RETRY_S, 2.0**self.failures)
            self.reason = f"{why_unreadable(outcome, folder)}{self._keeps()}"
            return
        elif isinstance(outcome, Refused):
            self.verdict = f"{outcome}{self._keeps()}"
        else:
            self.verdict = f"reading it failed ({type(outcome).__name__}){self._keeps()}"
        self.judged, self.reason = signature, self.verdict


def why_unreadable(error: OSError, folder: Path) -> str:
    """One line for the author: which file, why, and the mend where it is a matter of permissions."""
    file = Path(str(error.filename)) if error.filename else folder
    path = file.relative_to(folder).as_posix() if folder in file.parents else ""
    mend = f"; chmod -R a+rX {folder.name}" if error.errno in (errno.EACCES, errno.EPERM) else ""
    return f"{path + ': ' if path else ''}can't be read here: {error.strerror or error}{mend}"


def is_sealed(signature: Signature) -> bool:
    """Does the folder hold checksums of its own?"""
    return SUMS_NAME in signature or MANIFEST_NAME in signature
