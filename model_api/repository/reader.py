"""What is published on the shared file system, look by look: cheap while nothing changes, and each model in its turn.

Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from model_api.errors import Refused, RepositoryUnavailable
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import read_json
from model_api.repository.fair_looks import FairLooks
from model_api.repository.generation import MAX_GENERATION_BYTES, Generation
from model_api.repository.layout import Layout, mount_check
from model_api.repository.listing import MAX_ODDITIES, list_entries, misplaced_at_root, shown, why_no_model
from model_api.repository.manifest import NAME_PATTERN, Manifest
from model_api.repository.published import Published
from model_api.repository.side_work import SideWork
from model_api.repository.turns import QUIET_AFTER_S, Turns
from model_api.repository.watched_model import WatchedModel

_MAX_SIM_CHOICE_BYTES = 4096
_ROOT = "/"
_PAUSE_PER_MODEL_S = 0.01
_LOOKS_AFTER_A_CHANGE = 3  # a change that was announced is looked for again, should the first look have been stale


def read_sim_choice(layout: Layout) -> str | None:
    """The model that shall answer /sim for callers that name none; None where nobody chose. Raises OSError."""
    try:
        name = read_json(layout.sim_choice, _MAX_SIM_CHOICE_BYTES)["model"]
    except (FileNotFoundError, Refused, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) and NAME_PATTERN.fullmatch(name) else None


class Repository:
    """One reader of the store. All methods are for one thread; models are looked at on threads of their own, where one
    that hangs delays no other, and plain folders are hashed beside them."""

    def __init__(
        self,
        root: Path,
        settle_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        poll_s: float = 2.0,
    ) -> None:
        self.layout = Layout(root)
        self.oddities: Mapping[str, str] = {}  # what lies where models lie and is none -> why; see listing.py
        self.sim_choice: str | None = None  # as of the last look that found a change
        self._settle_s = settle_s
        self._clock = clock
        self._poll_s = poll_s
        self._models: dict[str, WatchedModel] = {}
        self._due_s: dict[str, float] = {}  # model -> when it is to be looked at again
        self._soon: dict[str, int] = {}  # model -> in how many of the next looks it is looked at, whatever is due
        self._listing_due_s = self._root_due_s = self._changed_s = clock()
        self._generation_bytes: bytes | None = None
        self._mark: str | None = None
        self._open: str | None = None  # the model whose change is under way
        self._at_root: Mapping[str, str] = {}
        self._looks: FairLooks[Published | None] = FairLooks("look at models")
        self._glances: FairLooks[Mapping[str, str]] = FairLooks("glance at names")
        self._work: SideWork[Manifest] = SideWork("hash plain folders")

    def check(self) -> None:
        """Raises RepositoryUnavailable unless the marker is there and its layout is known."""
        mount_check(self.layout.root)

    def seed(self, remembered: Mapping[str, Published]) -> None:
        """Start from what an earlier process of this instance saw, before the first look: a plain folder that changed
        in between is then a later change, and a model that can't be read for the moment isn't forgotten."""
        for name, published in remembered.items():
            self._models.setdefault(name, self._watched(name, published))

    def pause_before_first_s(self) -> float:
        """How long to wait before the first `look`, after `seed`: who remembers many models has time, and may have been
        restarted with its whole fleet. By chance; nothing for who remembers none."""
        longest_s = min(self._poll_s, len(self._models) * _PAUSE_PER_MODEL_S)
        return random.uniform(0.0, longest_s)  # noqa: S311 - jitter, no secret

    @property
    def pause_s(self) -> float:
        """How long to wait until the next `look`."""
        return self._turns().generation_s

    @property
    def heartbeat_s(self) -> float:
        """How often an instance should show that it lives; any thread."""
        return self._turns().heartbeat_s

    def observe(self, names: Collection[str] | None = None) -> Mapping[str, Published]:
        """A whole look at `names`, or at every model. Raises RepositoryUnavailable, and then nothing has changed."""
        self.check()
        now_s = self._clock()
        if names is None:
            self._list(now_s)
            names = set(self._models)
        names = {name for name in names if NAME_PATTERN.fullmatch(name)}
        self._look_at(names)
        return self._view(names)

    def look(self, names: Collection[str] | None = None) -> Mapping[str, Published] | None:
        """A look at what may have changed among `names`, or all models; None if nothing did. The first is whole.

        Of a store that nobody changed one small file is read, but for the slower turns (turns.py). Raises
        RepositoryUnavailable, and then nothing has changed.
        """
        changed = self._read_generation()
        try:
            if changed is None or self._mark is None:
                return self.observe(names)
            return self._look_at_what_is_due(names, changed)
        except RepositoryUnavailable:
            self._generation_bytes = self._mark = None  # what it told is still to be looked at
            raise

    def _look_at_what_is_due(self, names: Collection[str] | None, changed: set[str]) -> Mapping[str, Published] | None:
        now_s = self._clock()
        before = (self._view(names), self.oddities, self.sim_choice)
        if names is None and now_s >= self._listing_due_s:
            self._list(now_s)
        if names is None:
            wanted = {*self._models, *changed}
        else:
            wanted = {name for name in names if NAME_PATTERN.fullmatch(name)}
        self._soon.update(dict.fromkeys(changed & wanted, _LOOKS_AFTER_A_CHANGE))
        due = {name for name in wanted if self._due_s.get(name, 0.0) <= now_s} | set(self._soon)
        if due:
            self._look_at(due)
        self._soon = {name: left - 1 for name, left in self._soon.items() if left > 1}
        after = (self._view(names), self.oddities, self.sim_choice)
        if after == before:
            return None
        self._changed_s = now_s
        return after[0]

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

    def _watched(self, name: str, remembered: Published | None = None) -> WatchedModel:
        return WatchedModel(self.layout, name, self._work, self._settle_s, self._clock, remembered)

    def _turns(self) -> Turns:
        return Turns.of(self._poll_s, quiet=self._clock() - self._changed_s > QUIET_AFTER_S)

    def _view(self, names: Collection[str] | None) -> dict[str, Published]:
        models = self._models if names is None else names
        found = {name: self._models[name].last for name in sorted(models) if name in self._models}
        return {name: last for name, last in found.items() if last is not None}

    def _read_generation(self) -> set[str] | None:
        """What was announced since the last look; None where that can't be known. Raises RepositoryUnavailable."""
        try:
            data = read_bounded(self.layout.generation, MAX_GENERATION_BYTES)
            if data == self._generation_bytes:
                generation = None
            else:
                generation = Generation.from_json(data)
        except (FileNotFoundError, NotADirectoryError, Refused):  # a store of an earlier release, or a damaged one
            self._generation_bytes = self._mark = None
            return None
        except OSError as error:
            raise RepositoryUnavailable(f"{self.layout.root} can't be read: {error.strerror or error}") from error
        if generation is None:
            return {self._open} if self._open else set()
        changed = generation.since(self._mark) if self._mark is not None else None
        self._generation_bytes, self._mark, self._open = data, generation.mark, generation.open
        self._changed_s = self._clock()
        return changed

    def _list(self, now_s: float) -> None:
        """Note which models there are, and what else. Raises RepositoryUnavailable."""
        listed = list_entries(self.layout)
        models = {name for name in listed if NAME_PATTERN.fullmatch(name)}
        unknown = [name for name in listed if name not in models][:MAX_ODDITIES] + sorted(models - set(self._models))
        odd = self._glances.take_turns(unknown, self._glance)
        for name in models - set(self._models):
            if not odd.get(name):
                self._models[name] = self._watched(name)
        for name in set(self._models) - set(listed):
            self._due_s[name] = now_s  # to be told apart: gone, or not to be found for the moment
        if now_s >= self._root_due_s:
            at_root = self._glances.take_turns([_ROOT], lambda name: misplaced_at_root(self.layout.root))
            self._at_root = at_root.get(_ROOT, self._at_root)
            self._root_due_s = now_s + self._turns().published_s
        self.oddities = {name: why for found in [*odd.values(), self._at_root] for name, why in sorted(found.items())}
        self._listing_due_s = now_s + self._turns().listing_s

    def _glance(self, name: str) -> Mapping[str, str]:
        try:
            why = why_no_model(self.layout.models, name)
        except OSError as error:
            why = f"can't be looked at: {error.strerror or error}"
        return {shown(name): why} if why else {}

    def _look_at(self, names: Collection[str]) -> None:
        """Look at these models and keep what was seen. Raises RepositoryUnavailable, and then nothing is kept."""
        for name in names:
            if name not in self._models:
                self._models[name] = self._watched(name)
        in_turn = sorted(names, key=lambda name: (self._due_s.get(name, 0.0), name))
        above = functools.cache(self.layout.models.stat)
        seen = self._looks.take_turns(in_turn, lambda name: self._models[name].look(above))
        try:
            sim_choice = read_sim_choice(self.layout)
        except OSError:
            sim_choice = self.sim_choice
        self.check()  # unmounted in mid-look: what was missing proves nothing
        self.sim_choice = sim_choice
        now_s, turns = self._clock(), self._turns()
        for name in names:
            model = self._models[name]
            if name in seen:
                model.last = seen[name]
            elif (hanging_s := self._looks.hanging_s(name)) is not None:
                model.last = model.kept(f"its folder gives no answer, for {hanging_s:.0f} s now")
            else:
                continue  # no thread was left for it: it stays due, before the others
            if model.last is None:
                del self._models[name]
            self._due_s[name] = now_s + self._pause_until_next(model, turns, first=name not in self._due_s)

    def _pause_until_next(self, model: WatchedModel, turns: Turns, *, first: bool) -> float:
        """With jitter, so that models and instances spread over the turn; all over it after the `first` look, which
        many may take at once."""
        seen = model.last
        if seen is None or seen.waiting or seen.refused or not model.announced:
            pause_s = turns.unsettled_s
        else:
            pause_s = turns.plain_s if seen.plain else turns.published_s
        return pause_s * random.uniform(0.1 if first else 0.8, 1.2)  # noqa: S311 - jitter, no secret
