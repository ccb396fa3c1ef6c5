"""Change which versions of a model serve: under an advisory lock, re-reading, in one rename of refs.json.

No clocks are compared. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import RefsConflict, Refused
from model_api.publishing.announce import announced
from model_api.repository.bounded_files import read_bounded
from model_api.repository.checksums import SUMS_NAME, format_sums
from model_api.repository.files import locked_file, make_dirs, sync_folder, write_aside
from model_api.repository.folder_content import hash_folder_entries
from model_api.repository.folder_signature import take_signature
from model_api.repository.generation import Generation
from model_api.repository.layout import LAYOUT_VERSION, Layout, mount_check
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, check_name
from model_api.repository.refs import (
    MAX_REFS_BYTES,
    Ref,
    Refs,
    rolled_back,
    unloaded,
    with_canary,
    with_published,
    with_stable,
)


@dataclass(frozen=True)
class Outcome:
    """The result of a publish; `message` is one line for the author."""

    ref: Ref
    changed: bool
    message: str


def init(root: Path) -> bool:
    """Set up an empty store. True if the marker is new; a store that exists stays as it is. Raises OSError,
    RepositoryUnavailable for a store of another layout."""
    layout = Layout(root)
    if layout.marker.exists():
        mount_check(root)
        return False
    make_dirs(layout.models)
    write_aside(layout.generation, Generation().to_json())
    write_aside(layout.marker, LAYOUT_VERSION + "\n")
    return True


@contextlib.contextmanager
def locked(layout: Layout, name: str) -> Iterator[None]:
    """The lock of a model, held while its refs or its versions change. Waits while another author holds it."""
    make_dirs(layout.model(name))
    with locked_file(layout.lock(name), wait=True):
        yield


def read_refs(layout: Layout, name: str) -> Refs:
    """The refs as they are now; generation 0 if there are none. Raises Refused if they can't be understood."""
    try:
        return Refs.from_json(read_bounded(layout.refs(name), MAX_REFS_BYTES))
    except FileNotFoundError:
        return Refs(0)


def change_refs(layout: Layout, name: str, change: Callable[[Refs], Refs]) -> Refs:
    """Apply `change` to the refs, under `locked`. Raises what `change` raises, and RefsConflict if somebody wrote in
    between all the same (advisory locks bind only those who take them)."""
    before = read_refs(layout, name)
    after = change(before)
    if after == before:
        return before
    if read_refs(layout, name) != before:
        raise RefsConflict(f"{name}: somebody else changed {layout.refs(name).name} just now; try again")
    with announced(layout, name):
        write_aside(layout.refs(name), after.to_json())
    return after


def _require_model(layout: Layout, name: str) -> None:
    check_name("model", name)
    mount_check(layout.root)
    if not layout.refs(name).exists():
        raise Refused("", f"no model named {name!r} is published in {layout.root}")


def on_disk(layout: Layout, name: str, version: str) -> Ref:
    """The version that lies in versions/. Raises Refused if it isn't there or its manifest is bad."""
    try:
        file = layout.version(name, check_name("version", version)) / MANIFEST_NAME
        text = read_bounded(file, MAX_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("", f"{name} has no version {version!r}; scripts/models {name} lists them") from None
    there = Manifest.from_json(text)
    if (there.model, there.version) != (name, version):
        was = f"{name}@{version} calls itself {there.model}@{there.version}: its folder was renamed"
        raise Refused("", f"{was}; publish its files as {name} again")
    return Ref(version, there.digest)


def check_before_copy(layout: Layout, manifest: Manifest, version: str | None, canary_percent: float | None) -> None:
    """Fail now rather than after hours of copying, where that can be known. Raises Refused. Under `locked`."""
    free_version(layout, manifest.model, version)
    if canary_percent is not None:
        with_canary(read_refs(layout, manifest.model), Ref("new", manifest.digest), canary_percent)


def free_version(layout: Layout, name: str, version: str | None) -> str:
    """`version` if it was never used, or the next number. Raises Refused if it was. Under `locked`."""
    refs = read_refs(layout, name)
    used = {*refs.published, *refs.named()}
    used.update(versions_on_disk(layout, name), _listed(layout.trash(name)))
    if version is None:
        return str(max([0, *(int(v) for v in used if v.isdecimal())]) + 1)
    if check_name("version", version) in used:
        raise Refused("", f"{name}@{version} exists or existed with other content; a version is never overwritten")
    return version


def name_it(layout: Layout, name: str, ref: Ref, canary_percent: float | None) -> Outcome:
    def change(refs: Refs) -> Refs:
        named = with_stable(refs, ref) if canary_percent is None else with_canary(refs, ref, canary_percent)
        return with_published(named, ref)

    before = read_refs(layout, name)
    after = change_refs(layout, name, change)
    share = "stable" if canary_percent is None else f"canary for {canary_percent:g} % of callers"
    return Outcome(ref, after != before, f"{name}: version {ref.version} is now {share} (digest {ref.digest[:12]})")


def versions_on_disk(layout: Layout, name: str) -> list[str]:
    """The names of the folders in versions/, sorted."""
    return sorted(_listed(layout.versions(name)))


def _listed(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def promote(layout: Layout, name: str, version: str | None) -> tuple[Refs, Refs]:
    """Make `version` (None: the canary) the stable one; ends a canary. Returns the refs before and after. Raises
    Refused, RefsConflict, RepositoryUnavailable, OSError."""
    _require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)
        if version is None and before.canary is None:
            raise Refused("", f"{name} has no canary to promote; name a version")
        ref = before.canary.ref if version is None and before.canary else on_disk(layout, name, str(version))
        return before, change_refs(layout, name, lambda refs: with_published(with_stable(refs, ref), ref))


def rollback(layout: Layout, name: str) -> tuple[Refs, Refs]:
    """End the canary if there is one, else go back to the previous version. Returns the refs before and after.
    Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    _require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)
        if before.canary is None and before.previous is not None:
            on_disk(layout, name, before.previous.version)
        return before, change_refs(layout, name, rolled_back)


def retire(layout: Layout, name: str, version: str) -> Path:
    """Move a version that no ref names to .trash; its number stays taken. Returns where it lies now. Raises Refused,
    RefsConflict, RepositoryUnavailable, OSError."""
    _require_model(layout, name)
    with locked(layout, name):
        refs = read_refs(layout, name)
        for role, named in (("stable", refs.stable), ("previous", refs.previous), ("canary", refs.canary)):
            if named is not None and named.version == version:
                raise Refused("", f"{name}@{version} is the {role} version; only what no ref names can be retired")
        ref = on_disk(layout, name, version)
        change_refs(layout, name, lambda current: with_published(current, ref))
        make_dirs(layout.trash(name))
        target = layout.trash(name) / version
        layout.version(name, version).rename(target)
        sync_folder(layout.trash(name))
        sync_folder(layout.versions(name))
        return target


def unload(layout: Layout, name: str) -> tuple[Refs, Refs]:
    """Take the whole model out of service; its versions stay on disk. Returns the refs before and after. Raises
    Refused, RefsConflict, RepositoryUnavailable, OSError."""
    _require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)
        published = {**before.published, **before.named()}
        return before, change_refs(layout, name, lambda refs: replace(unloaded(refs), published=published))


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
