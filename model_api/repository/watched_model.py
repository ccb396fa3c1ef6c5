"""One model of the store, look by look.

Nothing here trusts stat or a cached listing for what serves: refs.json is opened and read afresh at every look.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.folder_signature import take_signature
from model_api.repository.layout import Layout
from model_api.repository.listing import loose_files, may_announce, why_unfit
from model_api.repository.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from model_api.repository.plain_folders import PlainFolder
from model_api.repository.published import Published
from model_api.repository.refs import MAX_REFS_BYTES, REFS_NAME, Ref, Refs
from model_api.repository.side_work import SideWork

log = logging.getLogger(__name__)

_LOOKS_BEFORE_GOING_BACK = 3


class WatchedModel:
    """What one reader knows of one model. For one thread at a time; slow reading is left to `work`."""

    def __init__(
        self,
        layout: Layout,
        name: str,
        work: SideWork[Manifest],
        settle_s: float,
        clock: Callable[[], float],
        remembered: Published | None = None,
    ) -> None:
        self.last = remembered  # what the last whole look of the reader found; set by the reader
        self.announced = True  # its author's changes show in the store's generation
        self._layout = layout
        self._folder, self._refs_file = layout.model(name), layout.refs(name)  # made once: joining takes half a look
        self._sources: dict[str, Path] = {}  # version -> its folder; likewise
        self._name = name
        self._work = work
        self._settle_s = settle_s
        self._clock = clock
        self._plain = PlainFolder(name, remembered.accepted) if remembered is not None else PlainFolder(name)
        self._gone_since_s: float | None = None
        self._parsed: dict[str, tuple[bytes, Refs | Manifest | Refused]] = {}  # path -> hash of what was read, outcome
        self._back_looks = 0
        self._went_back = ""

    def look(self, above: Callable[[], os.stat_result]) -> Published | None:
        """What is published now; None for nothing. Whatever is wrong with this model is a reason in what is returned:
        nothing is raised. `above` says what models/ is."""
        try:
            return self._look(above)
        except OSError as error:
            self._work.forget(self._name)
            file = f" ({Path(error.filename).name})" if isinstance(error.filename, str) else ""
            return self.kept(f"can't be read for the moment: {error.strerror or error}{file}")
        except Exception as error:
            log.exception("looking at a model failed", extra={"fields": {"model": self._name}})
            return self.kept(f"looking at it failed ({type(error).__name__}); see this instance's log")

    def kept(self, why: str, *, waiting: bool = False) -> Published | None:
        """What was last known of the model, with the reason why it isn't fresh."""
        if self.last is None:
            return Published(self._name, None, refused={"": why}, waiting=waiting) if why else None
        refused = {version: reason for version, reason in self.last.refused.items() if version}
        return replace(self.last, refused={**refused, "": why} if why else refused)

    def _look(self, above: Callable[[], os.stat_result]) -> Published | None:
        own = self._own_folder()
        misfit = why_unfit(self._name, own) if own is not None else ""
        if misfit:
            return self.kept(misfit)
        try:
            refs = self._read_refs()
        except (FileNotFoundError, NotADirectoryError):
            return self._look_without_refs()
        except Refused as error:
            return self.kept(str(error))
        if refs.deleted:
            return self._look_at_deleted()
        if self._goes_back(refs):
            return self.kept(f"{REFS_NAME}: generation {refs.generation} after {self._last_generation()}; watched")
        self.announced = own is None or may_announce(above(), own)
        self._work.forget(self._name)
        self._plain = PlainFolder(self._name)
        self._gone_since_s = None
        manifests: dict[str, Manifest] = {}
        refused: dict[str, str] = {}
        for version, digest in refs.named().items():
            try:
                manifests[version] = self._manifest(version, digest)
            except Refused as error:
                refused[version] = str(error)
        told = self._notes()
        sources = {version: self._source(version) for version in manifests}
        return Published(self._name, refs, manifests, {**refused, "": told} if told else refused, sources)

    def _source(self, version: str) -> Path:
        if version not in self._sources:
            self._sources[version] = self._layout.version(self._name, version)
        return self._sources[version]

    def _own_folder(self) -> os.stat_result | None:
        try:
            return os.lstat(self._folder)
        except FileNotFoundError:
            return None

    def _read_refs(self) -> Refs:
        """Raises Refused, OSError."""
        data = read_bounded(self._refs_file, MAX_REFS_BYTES)
        found = self._parse_once(REFS_NAME, data, Refs.from_json)
        assert isinstance(found, Refs)
        return found

    def _parse_once(self, path: str, data: bytes, parse: Callable[[bytes], Refs | Manifest]) -> Refs | Manifest:
        """What `parse` makes of `data`, or raises; the same data isn't parsed again."""
        seen = hashlib.blake2b(data, digest_size=16).digest()
        known, outcome = self._parsed.get(path, (b"", None))
        if known != seen or outcome is None:
            try:
                outcome = parse(data)
            except Refused as error:
                outcome = error
            self._parsed[path] = seen, outcome
        if isinstance(outcome, Refused):
            raise outcome
        return outcome

    def _last_generation(self) -> int:
        last = self.last
        return last.refs.generation if last is not None and last.refs is not None and not last.plain else 0

    def _goes_back(self, refs: Refs) -> bool:
        """Refs older than those that were seen are taken once they stay: somebody restored them then."""
        before = self._last_generation()
        if refs.generation >= before:
            self._back_looks = 0
            if refs.generation > before:
                self._went_back = ""
            return False
        self._back_looks += 1
        if self._back_looks <= _LOOKS_BEFORE_GOING_BACK:
            return True
        self._back_looks = 0
        self._went_back = f"{REFS_NAME} went back from generation {before} to {refs.generation}: a restored copy?"
        log.warning("refs went back", extra={"fields": {"model": self._name, "reason": self._went_back}})
        return False

    def _notes(self) -> str:
        """What its author should know although it serves."""
        loose = loose_files(self._folder)
        beside = f"nobody reads what lies beside versions/: {', '.join(loose[:3])}" if loose else ""
        more = f" and {len(loose) - 3} more" if len(loose) > 3 else ""
        return "; ".join(note for note in (self._went_back, beside + more) if note)

    def _manifest(self, version: str, digest: str) -> Manifest:
        known = self.last.manifests.get(version) if self.last is not None else None
        if known is not None and known.digest == digest:
            return known  # versions are immutable
        try:
            data = read_bounded(self._layout.version(self._name, version) / MANIFEST_NAME, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            raise Refused(MANIFEST_NAME, "not found (yet), though refs.json names this version") from None
        manifest = self._parse_once(f"{version}/{MANIFEST_NAME}", data, Manifest.from_json)
        assert isinstance(manifest, Manifest)
        if (manifest.model, manifest.version) != (self._name, version):
            there = f"{self._name}@{version}"
            raise Refused(MANIFEST_NAME, f"is for {manifest.model}@{manifest.version}, but lies at {there}")
        if manifest.digest != digest:
            raise Refused(MANIFEST_NAME, f"has digest {manifest.digest[:12]}, refs.json says {digest[:12]}")
        return manifest

    def _look_without_refs(self) -> Published | None:
        last = self.last
        if last is not None and last.refs is not None and not last.plain:
            why = f"{REFS_NAME} is missing; what it said last keeps serving (scripts/delete {self._name} ends it)"
            return self.kept(why)
        if self._layout.versions(self._name).is_dir():
            return self.kept("" if last is not None else "no version is complete yet", waiting=True)
        return self._look_at_plain()

    def _look_at_deleted(self) -> Published | None:
        """A tombstone ends what there was at once; what is copied there plainly afterwards is a first copy."""
        if self.last is not None and not self.last.plain:
            self.last = None
        if self._layout.versions(self._name).is_dir():  # its author is still moving them away
            return None
        try:
            empty = not any(not path.startswith(".") for path in take_signature(self._folder))
        except FileNotFoundError:
            empty = True
        if empty:
            self.last = None
        return self._look_at_plain(deleted=True)

    def _look_at_plain(self, *, deleted: bool = False) -> Published | None:
        folder, now_s, plain = self._folder, self._clock(), self._plain
        seen_before = plain.seen
        try:
            work = plain.look(folder, now_s, self._settle_s)
            empty = not any(not path.startswith(".") for path in plain.seen or {})
        except (FileNotFoundError, NotADirectoryError):
            if folder.is_dir():
                raise
            work, empty = None, True
        except Refused as error:
            return self.kept(str(error))
        if empty:
            return self._gone(now_s) or (self._empty() if not deleted else None)
        self._gone_since_s = None
        if seen_before != plain.seen:
            self._work.forget(self._name)
        outcome = self._work.outcome(self._name)
        if outcome is not None:
            plain.decided(outcome, folder, now_s)
        elif work is not None:
            self._work.ask(self._name, work)
        return self._plain_published()

    def _plain_published(self) -> Published:
        plain = self._plain
        refused = {"": plain.reason} if plain.reason else {}
        if plain.accepted is None:
            return Published(self._name, None, refused=refused, plain=True, waiting=plain.waiting)
        manifest = plain.accepted.manifest
        refs = Refs(0, Ref(manifest.version, manifest.digest))
        sources = {manifest.version: self._folder}
        return Published(
            self._name, refs, {manifest.version: manifest}, refused, sources, plain=True, accepted=plain.accepted
        )

    def _gone(self, now_s: float) -> Published | None:
        """A plain folder that is gone, or was never filled: forgotten once it has been gone for settle_s."""
        if self._gone_since_s is None:
            self._gone_since_s = now_s
        gone_s = now_s - self._gone_since_s
        if self.last is not None and gone_s < self._settle_s:
            return self.kept(f"gone for {gone_s:.0f} s; unloaded after {self._settle_s:.0f} s")
        self._work.forget(self._name)
        self._plain = PlainFolder(self._name)
        return None

    def _empty(self) -> Published | None:
        if not self._folder.is_dir():
            return None
        why = "a version is on its way" if self._layout.incoming(self._name).is_dir() else "an empty folder so far"
        return Published(self._name, None, refused={"": why}, waiting=True)
