"""Another name for a model, or a second model of the same content: files, task, options, probes and history go along.

Every step can be killed: until the new name's refs are written the old name serves alone, and the same command again
finishes the rest. Stdlib only, Python 3.9.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from model_api.errors import Refused, RepositoryError
from model_api.publishing import history
from model_api.publishing.author_lock import author_lock
from model_api.publishing.changes import change_refs, locked, manifest_on_disk, read_refs, require_model
from model_api.publishing.removal import delete
from model_api.publishing.same_content import Progress
from model_api.publishing.terms import NO_TERMS, Terms
from model_api.publishing.upload import Upload
from model_api.repository.files import make_dirs, write_aside
from model_api.repository.layout import Layout
from model_api.repository.manifest import MANIFEST_NAME, Manifest, check_name
from model_api.repository.refs import Refs


def rename(layout: Layout, name: str, new: str, progress: Progress, terms: Terms = NO_TERMS, key: str = "") -> Refs:
    """All versions of `name` under `new`, then a tombstone for `name`. Returns the new refs. Raises Refused if `new`
    is another model, RefsConflict if somebody changes `name` meanwhile, RepositoryError, OSError."""
    check_name("model", new)
    require_model(layout, name)
    if read_refs(layout, name).deleted != _renamed_to(new):
        _require_both(layout, name, new)  # before there is a folder for `new`
    with _alone(layout, new):
        return _rename(layout, name, new, progress, terms, key)


def _renamed_to(new: str) -> str:
    return f"renamed to {new}"


@contextlib.contextmanager
def _alone(layout: Layout, new: str) -> Iterator[None]:
    """One author at a time makes `new`, from its first file to its refs: who fails takes back no other's files."""
    make_dirs(layout.model(new))
    with author_lock(layout.model(new) / ".lock.making", new):
        yield


def _rename(layout: Layout, name: str, new: str, progress: Progress, terms: Terms, key: str) -> Refs:
    gone = replace(terms, source=new, statuses={}, expected=None)
    refs, why = read_refs(layout, name), _renamed_to(new)
    after = read_refs(layout, new)
    if refs.deleted != why:  # else a killed one came this far
        refs = _require_both(layout, name, new)
        versions = sorted(path.name for path in _listed(layout.versions(name)))
        after = _Order(layout, name, new, "rename", name, refs, versions, key).carry_out(progress, terms, link=True)
    delete(layout, name, gone, why, generation=refs.generation)
    for version in _listed(layout.versions(new)):  # the same files lie at the new name
        shutil.rmtree(layout.trash(name) / version.name, ignore_errors=True)
    return after


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def copy(layout: Layout, name: str, new: str, progress: Progress, terms: Terms = NO_TERMS, key: str = "") -> Refs:
    """What `name` serves, as a second model `new` with bytes of its own. Returns its refs. Raises as rename."""
    refs = _require_both(layout, name, new)
    stable = refs.stable
    if stable is None:
        raise Refused("", f"{name} has no stable version to copy")
    proven = stable.version in refs.proven
    kept = Refs(
        refs.generation,
        stable,
        published={stable.version: stable.digest},
        last_good=stable if proven else None,
        proven=(stable.version,) if proven else (),
    )
    order = _Order(layout, name, new, "copy", f"{name}@{stable.version}", kept, [stable.version], key)
    with _alone(layout, new):
        return order.carry_out(progress, terms, link=False)


def _require_both(layout: Layout, name: str, new: str) -> Refs:
    """The refs of `name`. Raises Refused."""
    require_model(layout, name)
    check_name("model", new)
    if name == new:
        raise Refused("", f"{name} and {new} are the same name")
    refs = read_refs(layout, name)
    if refs.deleted:
        raise Refused("", f"{name} is {refs.deleted}")
    return refs


@dataclass(frozen=True)
class _Order:
    """`versions` of `name` shall lie under `new`, whose refs shall say what `refs` say."""

    layout: Layout
    name: str
    new: str
    did: str
    source: str  # as the history of `new` will name it
    refs: Refs
    versions: Sequence[str]
    key: str  # an SSH key that signs them under the new name, as a signature names the model

    def carry_out(self, progress: Progress, terms: Terms, link: bool) -> Refs:
        """The new refs; `link` shares the files instead of copying them."""
        layout = self.layout
        terms.check(self.refs, self.name)
        with locked(layout, self.new):
            self._require_free()
        try:
            for version in self.versions:
                manifest = replace(manifest_on_disk(layout, self.name, version), model=self.new)
                if not (layout.version(self.new, version) / MANIFEST_NAME).is_file():
                    self._bring(version, manifest, progress, link)
            return self._name_them(terms)
        except (OSError, RepositoryError):
            self._take_back()
            raise

    def _name_them(self, terms: Terms) -> Refs:
        layout = self.layout
        terms = replace(terms, source=self.source, statuses={}, expected=None)
        with locked(layout, self.new):
            now = self._require_free()
            if layout.history(self.name).exists() and not layout.history(self.new).exists():
                write_aside(layout.history(self.new), layout.history(self.name).read_text("utf-8"))
            refs = replace(self.refs, published={**now.published, **self.refs.published}, deleted="")
            return change_refs(layout, self.new, self.did, lambda _: refs, terms, log=True)

    def _take_back(self) -> None:
        """Leave nothing of a model that came to nothing."""
        with contextlib.suppress(OSError, RepositoryError), locked(self.layout, self.new):
            if not read_refs(self.layout, self.new).generation:
                shutil.rmtree(self.layout.versions(self.new), ignore_errors=True)
                self.layout.incoming(self.new).rmdir()

    def _require_free(self) -> Refs:
        """`new` must be no model yet, or what an earlier try of the same made of it. Raises Refused."""
        layout, new = self.layout, self.new
        now = read_refs(layout, new)
        done = history.read(layout, new, now.generation)
        ours = bool(done) and (done[-1].get("did"), done[-1].get("from")) == (self.did, self.source)
        if now.generation and not now.deleted and not ours:
            raise Refused("", f"{new} is a model already; delete it first, or take another name")
        clash = {v for v, digest in now.published.items() if self.refs.published.get(v, digest) != digest}
        if clash:
            raise Refused("", f"{new}@{min(clash)} existed with other content; take another name")
        if layout.model(new).is_dir() and not now.generation:
            loose = [path.name for path in layout.model(new).iterdir() if not path.name.startswith(".")]
            if set(loose) - {"versions"}:
                raise Refused("", f"{layout.model(new)} holds a plain copy; take another name")
        return now

    def _bring(self, version: str, manifest: Manifest, progress: Progress, link: bool) -> None:
        source = self.layout.version(self.name, version)
        files = {entry.path: source / entry.path for entry in manifest.files}
        with Upload(self.layout, manifest) as upload:
            if not (link and upload.link(files)):
                upload.require_room(manifest.files)
                upload.copy(manifest.files, files, progress)
            upload.place(version)
