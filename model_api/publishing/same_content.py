"""Is what an author publishes in the store already? That is for the files to say, not for their names.

A version counts as the same where its manifest says all that the new one says. Its files are then hashed: what is
missing or damaged there is put right by the same publish. Where the files alone are the same (other probes, other
options), the new version takes its blobs from the old one.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import Refused
from model_api.publishing.changes import Outcome, change_refs, name_it, read_refs, versions_on_disk
from model_api.publishing.rules import without_refusal
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.repository.bounded_files import read_bounded
from model_api.repository.files import hash_file, write_aside
from model_api.repository.layout import Layout
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, FileEntry, Manifest
from model_api.repository.refs import Ref

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Existing:
    """A version with the content that is being published: what of its files is missing or damaged, and whether its
    manifest.json is (it can't be read, or is another model's: the folder was renamed)."""

    ref: Ref
    wrong: tuple[FileEntry, ...] = ()
    manifest_is_wrong: bool = False

    @property
    def is_whole(self) -> bool:
        return not self.wrong and not self.manifest_is_wrong


def find_existing(layout: Layout, manifest: Manifest, progress: Progress) -> Existing | None:
    """The version that holds this content, its files hashed; None if there is none. Raises Refused for refs that can't
    be understood, OSError."""
    found = find_by_manifest(layout, manifest)
    if found is None:
        return None
    folder, done_bytes = layout.version(manifest.model, found.ref.version), 0

    def count(block: bytes) -> None:
        nonlocal done_bytes
        done_bytes += len(block)
        progress(min(done_bytes, manifest.size_bytes), manifest.size_bytes)

    wrong = tuple(entry for entry in manifest.files if not holds(folder / entry.path, entry, count))
    return replace(found, wrong=wrong)


def find_by_manifest(layout: Layout, manifest: Manifest) -> Existing | None:
    """As `find_existing`, going by manifest.json and refs.json alone: what the refs name first."""
    name, refs = manifest.model, read_refs(layout, manifest.model)
    for version in dict.fromkeys([*refs.named(), *versions_on_disk(layout, name)]):
        ref = Ref(version, manifest.digest)
        known_by_refs = {**refs.published, **refs.named()}.get(version) == manifest.digest
        try:
            there = Manifest.from_json(read_bounded(layout.version(name, version) / MANIFEST_NAME, MAX_MANIFEST_BYTES))
        except (Refused, FileNotFoundError, NotADirectoryError):
            if known_by_refs:
                return Existing(ref, manifest_is_wrong=True)
            continue
        if there.says_the_same(manifest):
            return Existing(ref, manifest_is_wrong=(there.model, there.version) != (name, version))
    return None


def holds(file: Path, entry: FileEntry, count: Callable[[bytes], object] = lambda block: None) -> bool:
    """Whether `file` is a plain file with that very content. Raises OSError, but for a file that isn't there."""
    try:
        if file.is_symlink() or file.stat().st_size != entry.size_bytes:
            return False
        return hash_file(file, count) == (entry.size_bytes, entry.sha256)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return False


def settle(
    layout: Layout,
    manifest: Manifest,
    existing: Existing,
    canary_percent: float | None,
    terms: Terms = NO_TERMS,
) -> Outcome:
    """Let the refs name a version that is whole (again) by now. Under `locked`. Raises Refused, RefsConflict,
    OSError."""
    name, ref, before = manifest.model, existing.ref, read_refs(layout, manifest.model)
    damaged = [entry.path for entry in existing.wrong] + [MANIFEST_NAME] * existing.manifest_is_wrong
    mended = [f"version {ref.version} was damaged ({', '.join(damaged[:3])}) and is whole again"] if damaged else []
    if _sign(layout, ref.version, manifest):
        mended.append("it is signed now")
    if mended:  # what instances say is about what lay there before
        terms = replace(terms, statuses={}, force=True)
    known, told = ref.version in before.published, []
    if canary_percent is None and before.stable == ref and known:
        if not mended:
            whole = f"version {ref.version} is this very content, its files are whole, and it is stable already"
            return Outcome(ref, False, f"{name}: {whole}; nothing changed", before=before)
        outcome = Outcome(ref, False, f"{name}: version {ref.version} is stable already", before=before)
    else:
        outcome = name_it(layout, name, ref, canary_percent, terms)
        other = before.stable is not None and before.stable != ref and canary_percent is None
        was = f" (was {before.stable.version})" if other and before.stable else ""
        told = [f"this very content was published before{was}"] if known and outcome.changed else []
    if mended:  # a change of the refs has every instance try again what it refused
        change_refs(layout, name, "mend", lambda refs: without_refusal(refs, ref.version), terms, log=True)
    message = "; ".join([outcome.message, *told, *mended])
    return replace(outcome, changed=outcome.changed or bool(mended), message=message)


def _sign(layout: Layout, version: str, manifest: Manifest) -> bool:
    """A signature is no part of a version's content, so a version that has none gets it. Its estimate is the signed one
    then. Whether there was something to do."""
    file = layout.version(manifest.model, version) / MANIFEST_NAME
    if not manifest.signature:
        return False
    if Manifest.from_json(read_bounded(file, MAX_MANIFEST_BYTES)).signature == manifest.signature:
        return False
    write_aside(file, replace(manifest, version=version).to_json())
    return True


def blobs(layout: Layout, name: str) -> dict[str, Path]:
    """sha256 -> a file of some version of the model that should have that content. Touches no blob."""
    found: dict[str, Path] = {}
    for version in versions_on_disk(layout, name):
        folder = layout.version(name, version)
        with contextlib.suppress(Refused, OSError):
            for entry in Manifest.from_json(read_bounded(folder / MANIFEST_NAME, MAX_MANIFEST_BYTES)).files:
                found[entry.sha256] = folder / entry.path
    return found


def take_blobs(layout: Layout, manifest: Manifest, folder: Path, make_parent: Callable[[Path], None]) -> Iterator[str]:
    """Link into `folder` what another version of the model holds, each verified there; yields the paths taken. Blobs
    are immutable, so versions may share them; where links aren't possible the file is simply not taken."""
    known = blobs(layout, manifest.model)
    for entry in manifest.files:
        source, target = known.get(entry.sha256), folder / entry.path
        if source is None or source.is_symlink():
            continue
        make_parent(target.parent)
        try:
            target.unlink(missing_ok=True)  # what an earlier try left: rsync would write through a link
            os.link(source, target)
        except OSError:
            continue
        if holds(target, entry):
            yield entry.path
        else:
            target.unlink()
