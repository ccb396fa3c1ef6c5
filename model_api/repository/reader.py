"""What is published on the shared file system, look by look.

Nothing here trusts stat or a cached listing for what serves: refs.json is opened and read afresh at every look.
Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_api.errors import Refused, RepositoryUnavailable
from model_api.repository.bounded_files import read_bounded
from model_api.repository.layout import Layout, mount_check
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, NAME_PATTERN, Manifest
from model_api.repository.plain_folders import Accepted, PlainFolder
from model_api.repository.refs import MAX_REFS_BYTES, REFS_NAME, Ref, Refs
from model_api.repository.side_work import SideWork


@dataclass(frozen=True)
class Published:
    """One model as it is published. `manifests` holds those versions that the refs name and that can be read;
    `refused` says why not, by version, under "" for what concerns the model as a whole (bad refs, a copy that isn't
    whole, a change that isn't sealed). What was read well before and can't be read now is kept, with a reason."""

    name: str
    refs: Refs | None
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, Path] = field(default_factory=dict)  # version -> folder to copy from
    plain: bool = False  # a plain copy: its files may change under the reader, so never link to them
    accepted: Accepted | None = None  # of a plain copy: what was taken, to be remembered over a restart


class Repository:
    """One reader of the store. All methods on the poller's thread; hashing of plain folders on a thread of its own,
    one at a time, so that a large one delays no look."""

    def __init__(self, root: Path, settle_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.layout = Layout(root)
        self._settle_s = settle_s
        self._clock = clock
        self._last: dict[str, Published] = {}
        self._folders: dict[str, PlainFolder] = {}
        self._gone_since_s: dict[str, float] = {}
        self._work: SideWork[Manifest] = SideWork("hash plain folders")

    def check(self) -> None:
        """Raises RepositoryUnavailable unless the marker is there and its layout is known."""
        mount_check(self.layout.root)

    def seed(self, remembered: Mapping[str, Published]) -> None:
        """Start from what an earlier process of this instance saw, before the first look: a plain folder that changed
        in between is then a later change, and a model that can't be read for the moment isn't forgotten."""
        for name, published in remembered.items():
            self._last.setdefault(name, published)
            if published.accepted is not None:
                self._folders.setdefault(name, PlainFolder(name, published.accepted))

    def observe(self, names: Collection[str] | None = None) -> Mapping[str, Published]:
        """One look at `names`, or at every model. Raises RepositoryUnavailable, and then nothing has changed."""
        self.check()
        try:
            with os.scandir(self.layout.models) as entries:
                listed = {entry.name for entry in entries}
        except FileNotFoundError:
            listed = set()
        except OSError as error:
            raise RepositoryUnavailable(f"{self.layout.models} can't be listed: {error.strerror or error}") from error
        wanted = listed | set(self._last) if names is None else set(names)
        wanted = {name for name in wanted if NAME_PATTERN.fullmatch(name)}
        seen: dict[str, Published] = {}
        failures: list[OSError] = []
        for name in sorted(wanted):
            try:
                published = self._look(name)
            except OSError as error:
                failures.append(error)
                self._work.forget(name)
                why = f"can't be read for the moment: {error.strerror or error}"
                published = self._kept(name, why)
            if published is not None:
                seen[name] = published
        if failures and len(failures) == len(wanted):
            raise RepositoryUnavailable(f"no model can be read: {failures[0].strerror or failures[0]}")
        self.check()  # unmounted in mid-look: what was missing proves nothing
        self._last = {**{name: kept for name, kept in self._last.items() if name not in wanted}, **seen}
        return seen

    def versions(self, name: str) -> list[str]:
        """Versions on disk, oldest number first, then by name. Raises RepositoryUnavailable."""
        try:
            found = [path.name for path in self.layout.versions(name).iterdir() if NAME_PATTERN.fullmatch(path.name)]
        except FileNotFoundError:
            self.check()
            return []
        except OSError as error:
            raise RepositoryUnavailable(f"{name}: {error.strerror or error}") from error
        return sorted(found, key=lambda v: (not v.isdecimal(), int(v) if v.isdecimal() else 0, v))

    def _look(self, name: str) -> Published | None:
        try:
            refs = Refs.from_json(read_bounded(self.layout.refs(name), MAX_REFS_BYTES))
        except (FileNotFoundError, NotADirectoryError):
            return self._look_without_refs(name)
        except Refused as error:
            return self._kept(name, str(error)) or Published(name, None, refused={"": str(error)})
        self._work.forget(name)
        self._folders.pop(name, None)
        self._gone_since_s.pop(name, None)
        manifests: dict[str, Manifest] = {}
        refused: dict[str, str] = {}
        for version, digest in refs.named().items():
            try:
                manifests[version] = self._manifest(name, version, digest)
            except Refused as error:
                refused[version] = str(error)
        sources = {version: self.layout.version(name, version) for version in manifests}
        return Published(name, refs, manifests, refused, sources)

    def _manifest(self, name: str, version: str, digest: str) -> Manifest:
        known = self._last[name].manifests.get(version) if name in self._last else None
        if known is not None and known.digest == digest:
            return known  # versions are immutable
        try:
            text = read_bounded(self.layout.version(name, version) / MANIFEST_NAME, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise Refused(MANIFEST_NAME, "not found (yet), though refs.json names this version") from None
        manifest = Manifest.from_json(text)
        if (manifest.model, manifest.version) != (name, version):
            raise Refused(MANIFEST_NAME, f"is for {manifest.model}@{manifest.version}, but lies at {name}@{version}")
        if manifest.digest != digest:
            raise Refused(MANIFEST_NAME, f"has digest {manifest.digest[:12]}, refs.json says {digest[:12]}")
        return manifest

    def _look_without_refs(self, name: str) -> Published | None:
        last = self._last.get(name)
        if last is not None and last.refs is not None and not last.plain:
            return self._kept(name, f"{REFS_NAME} is missing; what it said last keeps serving")
        if self.layout.versions(name).is_dir():
            return self._kept(name, "") or Published(name, None, refused={"": "no version is complete yet"})
        return self._look_at_plain(name)

    def _look_at_plain(self, name: str) -> Published | None:
        folder, now_s = self.layout.model(name), self._clock()
        plain = self._folders.setdefault(name, PlainFolder(name))
        signature_before = plain.seen
        try:
            work = plain.look(folder, now_s, self._settle_s)
            empty = not any(not path.startswith(".") for path in plain.seen or {})
        except (FileNotFoundError, NotADirectoryError):
            if folder.is_dir():
                raise
            work, empty = None, True
        if empty:
            return self._gone(name, now_s)
        self._gone_since_s.pop(name, None)
        if signature_before != plain.seen:
            self._work.forget(name)
        outcome = self._work.outcome(name)
        if isinstance(outcome, (Manifest, Refused)) and plain.seen is not None:
            plain.decided(outcome, plain.seen)
        elif work is not None:
            self._work.start(name, work)
        return self._plain_published(plain)

    def _plain_published(self, plain: PlainFolder) -> Published:
        refused = {"": plain.reason} if plain.reason else {}
        if plain.accepted is None:
            return Published(plain.name, None, refused=refused, plain=True)
        manifest = plain.accepted.manifest
        refs = Refs(0, Ref(manifest.version, manifest.digest))
        sources = {manifest.version: self.layout.model(plain.name)}
        return Published(
            plain.name, refs, {manifest.version: manifest}, refused, sources, plain=True, accepted=plain.accepted
        )

    def _gone(self, name: str, now_s: float) -> Published | None:
        """A plain folder that is gone, or was never filled: forgotten once it has been gone for settle_s."""
        gone_s = now_s - self._gone_since_s.setdefault(name, now_s)
        if name in self._last and gone_s < self._settle_s:
            return self._kept(name, f"gone for {gone_s:.0f} s; unloaded after {self._settle_s:.0f} s")
        self._work.forget(name)
        self._folders.pop(name, None)
        self._gone_since_s.pop(name, None)
        return None

    def _kept(self, name: str, why: str) -> Published | None:
        """What was last known of the model, with the reason why it isn't fresh."""
        last = self._last.get(name)
        if last is None:
            return Published(name, None, refused={"": why}) if why else None
        refused = {version: reason for version, reason in last.refused.items() if version}
        return replace(last, refused={**refused, "": why} if why else refused)
