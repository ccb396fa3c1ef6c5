"""After a change: say what the instances say of it, and with --wait follow it. Stdlib only, Python 3.9."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from model_api.errors import RepositoryError
from model_api.publishing.announce import wake
from model_api.publishing.changes import Outcome, read_refs
from model_api.publishing.commands import waiting
from model_api.publishing.commands.arguments import terms_of
from model_api.publishing.commands.waiting import Absence, Sight, Verdict, Watch, wait
from model_api.publishing.moves import Move, take_back, take_down
from model_api.publishing.rules import serves_the_same
from model_api.publishing.terms import Terms
from model_api.repository.layout import Layout
from model_api.repository.refs import Ref
from model_api.repository.statuses import Status, read_statuses

WAIT_CODES = {
    Verdict.CONVERGED: 0,
    Verdict.REFUSED: 4,
    Verdict.NO_LIVE_STATUS: 5,
    Verdict.TIMED_OUT: 6,
    Verdict.SUPERSEDED: 7,
    Verdict.EXCLUDED: 8,
}


def sightings(name: str, ref: Ref, statuses: Mapping[str, Status]) -> str:
    """ "2 of 3 instances serve it, i-3 refuses: probe 0 is off"."""
    said = {instance: status.said_of(name, ref) for instance, status in statuses.items()}
    counted = {instance: one for instance, one in said.items() if one.state != "excluded"}
    if not counted:
        return "no instance reports yet" if not said else "no instance is set up to serve it (MODEL_API_MODELS)"
    serving = sum(one.state == "serving" for one in counted.values())
    ready = sum(one.state == "ready" for one in counted.values())
    parts = [f"{serving} of {len(counted)} instances serve it"]
    parts += [f"{ready} have it ready"] if ready else []
    parts += [f"{instance} refuses: {one.reason}" for instance, one in counted.items() if one.state == "refused"]
    parts += [f"{instance} can't load it: {one.reason}" for instance, one in counted.items() if one.state == "failing"]
    return ", ".join(parts)


class Store(Protocol):
    """The store that a command works on, here or on the far side, as one model's author needs it after a change."""

    def sight(self) -> Sight:
        """What lies there now. Raises RepositoryError, OSError."""

    def take_down(self, statuses: Mapping[str, Status]) -> None:
        """Write down what the instances say. Raises RepositoryError, OSError."""

    def take_back(self, outcome: Outcome, why: str) -> str:
        """Undo a publish that is refused; what came of it, in words. Raises RepositoryError, OSError."""


@dataclass(frozen=True)
class NearStore:
    """A store that is mounted here."""

    layout: Layout
    status_dir: Path
    name: str
    terms: Terms

    def sight(self) -> Sight:
        return Sight(read_refs(self.layout, self.name), read_statuses(self.status_dir))

    def take_down(self, statuses: Mapping[str, Status]) -> None:
        take_down(self.layout, self.name, replace(self.terms, statuses=statuses, expected=None))

    def take_back(self, outcome: Outcome, why: str) -> str:
        terms = replace(self.terms, statuses={}, expected=None)
        return taken_back_in_words(take_back(self.layout, self.name, outcome.before, outcome.ref, why, terms), outcome)


def taken_back_in_words(move: Move, outcome: Outcome) -> str:
    """What became of a publish that was to be undone."""
    before, after, version = move.before, move.after, outcome.ref.version
    if serves_the_same(before, after):
        now = f"version {before.stable.version} is stable" if before.stable else "no version is stable"
        return f"version {version} is refused; somebody else's newer change stays: {now}"
    if before.stable == after.stable:
        return f"version {version} is refused and no canary any more"
    back = f"version {after.stable.version} is stable again" if after.stable else "nothing is stable, as before"
    return f"version {version} is refused; {back}"


def follow(parsed: argparse.Namespace, name: str, ref: Ref) -> int:
    """With --wait: until every live instance serves `ref`; what they say is written down. Returns the exit code."""
    if not parsed.wait:
        return 0
    wake(Layout(parsed.root), name)
    store = NearStore(Layout(parsed.root), parsed.status_dir, name, terms_of(parsed, read=False))
    watch = Watch(name, ref, live_s=waiting.LIVE_S)
    verdict = wait(watch, store.sight, tell, parsed.wait_timeout)
    with contextlib.suppress(RepositoryError, OSError):  # somebody else's change; the next command takes it down
        store.take_down(watch.statuses)
    print(f"{name}@{ref.version}: {watch.words(verdict)}", flush=True)
    return WAIT_CODES[verdict]


def follow_absence(parsed: argparse.Namespace, name: str, ref: Ref | None) -> int:
    """With --wait: until no live instance has `ref` (None: anything of the model). Returns the exit code."""
    if not parsed.wait:
        return 0
    wake(Layout(parsed.root), name)
    watch = Absence(name, ref, live_s=waiting.LIVE_S)
    store = NearStore(Layout(parsed.root), parsed.status_dir, name, terms_of(parsed, read=False))
    verdict = wait(watch, store.sight, tell, parsed.wait_timeout)
    print(f"{name}{'@' + ref.version if ref else ''}: {watch.words(verdict)}", flush=True)
    return 0 if verdict is Verdict.EXCLUDED else WAIT_CODES[verdict]


def tell(text: str) -> None:
    """A line of what an instance is at."""
    print(f"  {text}", flush=True)
