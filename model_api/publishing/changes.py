"""Change which versions of a model serve: under an advisory lock, re-reading, in one rename of refs.json.

No clocks are compared. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import RefsConflict, Refused
from model_api.publishing import history, sim_choice
from model_api.publishing.announce import announced
from model_api.publishing.author_lock import author_lock
from model_api.publishing.rules import (
    serves_the_same,
    with_canary,
    with_evidence,
    with_proof,
    with_published,
    with_stable,
)
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.repository.bounded_files import read_bounded
from model_api.repository.checksums import SUMS_NAME, format_sums
from model_api.repository.files import make_dirs, write_aside
from model_api.repository.folder_content import hash_folder_entries
from model_api.repository.folder_signature import take_signature
from model_api.repository.generation import Generation
from model_api.repository.layout import LAYOUT_VERSION, MARKER_NAME, Layout, mount_check
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, check_name
from model_api.repository.refs import MAX_REFS_BYTES, Ref, Refs

RESERVED_VERSIONS = frozenset({"canary", "stable", "previous", "last_good", "latest", "none"})
MAX_NUMBER_DIGITS = 9
_OF_A_HALF_STORE = frozenset({"models", "status", f".{MARKER_NAME}.new"})  # somebody was killed while setting it up


@dataclass(frozen=True)
class Outcome:
    """The result of a publish; `message` is one line for the author."""

    ref: Ref
    changed: bool
    message: str
    warnings: tuple[str, ...] = ()
    before: Refs = Refs(0)  # what served


def init(root: Path, force: bool = False) -> bool:
    """Set up an empty store. True if the marker is new; a store that exists stays as it is. Raises Refused for a
    folder that holds something and isn't a mount, or whose parent isn't there, unless forced; OSError,
    RepositoryUnavailable for a store of another layout."""
    layout = Layout(root)
    if layout.marker.exists():
        mount_check(root)
        return False
    if not force:
        _require_place(root)
    make_dirs(layout.models)
    write_aside(layout.generation, Generation().to_json())
    write_aside(layout.marker, LAYOUT_VERSION + "\n")
    return True


def _require_place(root: Path) -> None:
    """Raises Refused where a new store would be a slip of the pen."""
    if not root.exists():
        if not root.parent.is_dir():
            raise Refused("", f"{root.parent} doesn't exist, so {root} looks like a typo; --force makes both")
    elif not os.path.ismount(root) and any(path.name not in _OF_A_HALF_STORE for path in root.iterdir()):
        raise Refused("", f"{root} holds other things and isn't a mount; --force sets a store up there all the same")


@contextlib.contextmanager
def locked(layout: Layout, name: str) -> Iterator[None]:
    """The lock of a model, held while its refs or its versions change. Waits while another author holds it, and says
    who that is. Raises RefsConflict where that takes too long."""
    make_dirs(layout.model(name))
    with author_lock(layout.lock(name), name):
        yield


def read_refs(layout: Layout, name: str) -> Refs:
    """The refs as they are now; generation 0 if there are none. Raises Refused if they can't be understood."""
    try:
        return Refs.from_json(read_bounded(layout.refs(name), MAX_REFS_BYTES))
    except FileNotFoundError:
        return Refs(0)


def change_refs(
    layout: Layout, name: str, did: str, change: Callable[[Refs], Refs], terms: Terms = NO_TERMS, log: bool = False
) -> Refs:
    """Take down what the instances say, apply `change`, and log it as `did` if it changed what serves, or `log` says
    so. Under `locked`. Raises what `change` raises, and RefsConflict if the expected version isn't stable, or if
    somebody wrote in between all the same (advisory locks bind only those who take them)."""
    before = read_refs(layout, name)
    terms.check(before, name)
    after = change(with_evidence(before, name, terms.statuses))
    if after == before and not log:
        return before
    if log or not serves_the_same(before, after):  # else only what is known of the versions differs
        after = replace(after, generation=max(before.generation, after.generation) + 1)
    if read_refs(layout, name) != before:
        raise RefsConflict(f"{name}: somebody else changed {layout.refs(name).name} just now; try again")
    with announced(layout, name):
        if log or not serves_the_same(before, after):
            history.append(layout, name, history.entry_of(did, before, after, terms))
        write_aside(layout.refs(name), after.to_json())
    return after


def require_model(layout: Layout, name: str) -> None:
    """Raises Refused if no such model was ever published, RepositoryUnavailable."""
    check_name("model", name)
    mount_check(layout.root)
    if not layout.refs(name).exists():
        raise Refused("", f"no model named {name!r} is published in {layout.root}")


def manifest_on_disk(layout: Layout, name: str, version: str) -> Manifest:
    """Of a version that lies in versions/. Raises Refused if it isn't there or its manifest is bad."""
    try:
        file = layout.version(name, check_name("version", version)) / MANIFEST_NAME
        text = read_bounded(file, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("", f"{name} has no version {version!r}; scripts/models {name} lists them") from None
    there = Manifest.from_json(text)
    if (there.model, there.version) != (name, version):
        was = f"{name}@{version} calls itself {there.model}@{there.version}: its folder was renamed"
        raise Refused("", f"{was}; publish its files as {name} again")
    return there


def on_disk(layout: Layout, name: str, version: str) -> Ref:
    """The version that lies in versions/. Raises Refused if it isn't there, its manifest is bad, or not its own."""
    return Ref(version, manifest_on_disk(layout, name, version).digest)


def check_before_copy(
    layout: Layout, manifest: Manifest, version: str | None, canary_percent: float | None, terms: Terms = NO_TERMS
) -> None:
    """Fail now rather than after hours of copying, where that can be known. Raises Refused, RefsConflict. Under
    `locked`."""
    refs = read_refs(layout, manifest.model)
    terms.check(refs, manifest.model)
    free_version(layout, manifest.model, version)
    if canary_percent is not None:
        with_canary(refs, Ref("new", manifest.digest), canary_percent)


def free_version(layout: Layout, name: str, version: str | None) -> str:
    """`version` if it was never used, or the next number. Raises Refused if it was. Under `locked`."""
    refs = read_refs(layout, name)
    used = {*refs.published, *refs.named()}
    used.update(versions_on_disk(layout, name), _listed(layout.trash(name)))
    if version is None:
        return str(max([0, *(int(v) for v in used if v.isdecimal() and len(v) <= MAX_NUMBER_DIGITS)]) + 1)
    if check_name("version", version) in RESERVED_VERSIONS:
        raise Refused("", f"version {version!r}: {name}@{version} would be ambiguous, callers use such words for roles")
    if version.isdecimal() and len(version) > MAX_NUMBER_DIGITS:
        raise Refused(
            "", f"version {version!r}: a number has at most {MAX_NUMBER_DIGITS} digits, as the next is one more"
        )
    if version in used:
        raise Refused("", f"{name}@{version} exists or existed with other content; a version is never overwritten")
    return version


def name_it(
    layout: Layout, name: str, ref: Ref, canary_percent: float | None, terms: Terms = NO_TERMS, did: str = "publish"
) -> Outcome:
    """Let the refs name a version that lies in versions/. Under `locked`. Raises Refused, RefsConflict, OSError."""
    before = read_refs(layout, name)
    warnings = _warnings(layout, name, before, ref, canary_percent)
    warnings += sim_choice.keep(layout, name, manifest_on_disk(layout, name, ref.version).task, terms.statuses)

    def change(refs: Refs) -> Refs:
        refs = with_published(refs, ref)
        if terms.checked:
            refs = with_proof(refs, ref)
        terms.require_not_refused(refs, name, ref)
        return with_stable(refs, ref) if canary_percent is None else with_canary(refs, ref, canary_percent)

    after = change_refs(layout, name, did, change, terms)
    share = "" if canary_percent is None else f", canary for {canary_percent:g} % of callers"
    message = f"{name}: published as version {ref.version}{share}; instances load it now (digest {ref.digest[:12]})"
    return Outcome(ref, not serves_the_same(before, after), message, tuple(warnings), before)


def _warnings(layout: Layout, name: str, before: Refs, ref: Ref, canary_percent: float | None) -> list[str]:
    """What the author may not expect of naming `ref`."""
    found = []
    if before.canary is not None and before.canary.ref != ref:
        found.append(
            f"the canary, version {before.canary.version} for {before.canary.percent:g} % of callers, ends with this;"
            f" scripts/history {name} tells whose it was"
        )
    with contextlib.suppress(Refused, OSError):
        if before.stable is not None:
            was = manifest_on_disk(layout, name, before.stable.version).task
            now = manifest_on_disk(layout, name, ref.version).task
            if was != now:
                found.append(f"version {before.stable.version} serves {was}, version {ref.version} serves {now}")
    return found


def versions_on_disk(layout: Layout, name: str) -> list[str]:
    """The names of the folders in versions/, sorted."""
    return sorted(_listed(layout.versions(name)))


def _listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def seal(layout: Layout, name: str) -> int:
    """Write SHA256SUMS for a plainly copied folder as it is now: its author says so that the copy is complete.
    Returns the number of files. Raises Refused, RepositoryUnavailable, OSError (Changed: still being copied)."""
    check_name("model", name)
    mount_check(layout.root)
    folder = layout.model(name)
    if layout.versions(name).exists() or layout.refs(name).exists():
        raise Refused("", f"{name} is published by version; only a plainly copied folder is sealed")
    if not folder.is_dir():
        raise Refused("", f"no folder {folder}")
    with locked(layout, name):
        entries = hash_folder_entries(folder, take_signature(folder))
        with announced(layout, name):
            write_aside(folder / SUMS_NAME, format_sums((entry.path, entry.sha256) for entry in entries))
    return len(entries)
