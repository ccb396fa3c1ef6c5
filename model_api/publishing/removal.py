"""Take versions or a whole model away: retire and back, out of service, deleted, swept out.

What is taken away lies in .trash until `gc` removes it. Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import RefsConflict, Refused, RepositoryError
from model_api.publishing.changes import change_refs, locked, on_disk, read_refs, require_model
from model_api.publishing.moves import Move, require_whole
from model_api.publishing.rules import unloaded, with_published, without_proof
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.publishing.upload import remove_dead_uploads
from model_api.repository.files import make_dirs, sync_folder
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import NAME_PATTERN, check_name
from model_api.repository.refs import Refs
from model_api.repository.statuses import Status

_PLAIN = "plain-"  # in .trash: the loose files of a plain copy
_REMOVING = ".removing-"  # in .trash: half removed
_OURS = (".incoming", ".trash", "versions")


def serving_instances(name: str, digests: Mapping[str, str], statuses: Mapping[str, Status]) -> dict[str, str]:
    """instance -> the version of `digests` (version -> digest) with which it answers for the name."""
    found = {}
    for instance, status in statuses.items():
        for version, digest in digests.items():
            if status.state_of(name, digest) == "serving":
                found[instance] = version
    return found


def retire(layout: Layout, name: str, version: str, terms: Terms = NO_TERMS) -> Path:
    """Move a version that no ref names and no instance serves to .trash; its number stays taken. Returns where it lies
    now. Raises Refused, RefsConflict, RepositoryUnavailable, OSError."""
    require_model(layout, name)
    with locked(layout, name):
        ref = on_disk(layout, name, version)

        def change(refs: Refs) -> Refs:
            roles = (("stable", refs.stable), ("previous", refs.previous), ("last good", refs.last_good))
            for role, named in (*roles, ("canary", refs.canary)):
                if named is not None and named.version == version:
                    raise Refused("", f"{name}@{version} is the {role} version; only what no ref names can be retired")
            serving = serving_instances(name, {version: ref.digest}, terms.statuses)
            if serving and not terms.force:
                raise Refused("", f"{name}@{version} is what {', '.join(serving)} serves; --force retires it anyway")
            return without_proof(with_published(refs, ref), version)

        change_refs(layout, name, "retire", change, replace(terms, source=version), log=True)
        target = layout.trash(name) / version
        _move(layout.version(name, version), target)
        return target


def undo_retire(layout: Layout, name: str, version: str, terms: Terms = NO_TERMS) -> None:
    """Put a retired version back into versions/; it serves when it is promoted. Raises Refused if it isn't in .trash,
    or not whole; RefsConflict, RepositoryUnavailable, OSError."""
    require_model(layout, name)
    with locked(layout, name):
        retired = layout.trash(name) / check_name("version", version)
        if not retired.is_dir():
            there = sorted(p.name for p in _listed(layout.trash(name)) if NAME_PATTERN.fullmatch(p.name))
            raise Refused("", f"{name}@{version} isn't in .trash; there: {', '.join(there) or 'nothing'}")
        target = layout.version(name, version)
        if target.exists():
            raise Refused("", f"{name}@{version} is not retired")
        _move(retired, target)
        try:
            require_whole(layout, name, version)
            change_refs(layout, name, "retire --undo", lambda refs: refs, replace(terms, source=version), log=True)
        except (RepositoryError, OSError):  # a full disk, say: what fails has changed nothing
            _move(target, retired)
            raise


def unload(layout: Layout, name: str, terms: Terms = NO_TERMS) -> Move:
    """Take the whole model out of service; its versions stay on disk. Raises Refused, RefsConflict,
    RepositoryUnavailable, OSError."""
    require_model(layout, name)
    with locked(layout, name):
        before = read_refs(layout, name)

        def change(refs: Refs) -> Refs:
            return replace(unloaded(refs, refs.deleted), published={**refs.published, **refs.named()})

        return Move(before, change_refs(layout, name, "retire --all", change, terms))


def delete(
    layout: Layout,
    name: str,
    terms: Terms = NO_TERMS,
    why: str = "deleted",
    known: bool = False,
    generation: int | None = None,
) -> Move:
    """End a model: a tombstone, which every instance obeys, also one that starts later; then its versions go to
    .trash. `known`: an instance still serves it, though its folder is gone. A second time finishes what a killed one
    began. Raises Refused for a name that never was a model, RefsConflict (also if the refs are no longer of
    `generation`), RepositoryUnavailable, OSError."""
    check_name("model", name)
    mount_check(layout.root)
    if not layout.model(name).is_dir() and not known:
        raise Refused("", f"no model named {name!r} is published in {layout.root}")
    with locked(layout, name):
        before = read_refs(layout, name)
        if generation not in (None, before.generation):
            raise RefsConflict(f"{name}: somebody else changed it meanwhile; run the same command again")

        # A plain copy goes first: under a tombstone, what still lay there would look like a new one.
        loose = [path for path in _listed(layout.model(name)) if not _is_ours(path)]
        if loose:
            plain = _free(layout.trash(name) / f"{_PLAIN}1")
            for path in loose:
                _move(path, plain / path.name)

        def change(refs: Refs) -> Refs:
            return replace(unloaded(refs, why), published={**refs.published, **refs.named()})

        after = change_refs(layout, name, "delete", change, terms)
        for folder in _listed(layout.versions(name)):
            _move(folder, _free(layout.trash(name) / folder.name))
        with contextlib.suppress(FileNotFoundError):
            layout.versions(name).rmdir()
        return Move(before, after)


def _is_ours(path: Path) -> bool:
    return path.name in _OURS or path.name.startswith((".lock", ".history", ".refs", "refs.json"))


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _free(path: Path) -> Path:
    """`path`, or the next name beside it that is free."""
    stem, number = path.name.partition("~")[0], 1
    while path.exists():
        number += 1
        path = path.with_name(f"{stem}~{number}")
    return path


def _move(source: Path, target: Path) -> None:
    make_dirs(target.parent)
    source.rename(target)
    sync_folder(target.parent)
    sync_folder(source.parent)


@dataclass(frozen=True)
class Rubbish:
    """Something that `gc` may remove."""

    name: str  # of the model
    path: Path
    size_bytes: int
    what: str


def rubbish(layout: Layout, name: str | None) -> list[Rubbish]:
    """What .trash and dead uploads hold, of one model or all. Raises RepositoryUnavailable, OSError."""
    mount_check(layout.root)
    names = [check_name("model", name)] if name is not None else sorted(path.name for path in _listed(layout.models))
    found = []
    for model in names:
        for path in _listed(layout.trash(model)):
            found.append(Rubbish(model, path, _size_bytes(path), "half removed" if _is_half(path) else "retired"))
        for path in _listed(layout.incoming(model)):
            found.append(Rubbish(model, path, _size_bytes(path), "an upload that broke off"))
    return found


def remove_rubbish(layout: Layout, found: list[Rubbish]) -> list[Rubbish]:
    """Remove it for good; returns what is gone. An upload under way stays. Raises OSError."""
    gone = []
    for rubbish_ in found:
        with locked(layout, rubbish_.name):
            if rubbish_.path.parent == layout.incoming(rubbish_.name):
                remove_dead_uploads(layout, rubbish_.name)
            elif rubbish_.path.exists():
                path = rubbish_.path
                if not _is_half(path):  # first out of the way of `retire --undo`, which must never find a part
                    path = path.rename(_free(path.with_name(_REMOVING + path.name)))
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not rubbish_.path.exists():
            gone.append(rubbish_)
    return gone


def _is_half(path: Path) -> bool:
    return path.name.startswith(_REMOVING)


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for directory, _, names in os.walk(path):
        for file in names:
            with contextlib.suppress(OSError):
                total += Path(directory, file).lstat().st_size
    return total
