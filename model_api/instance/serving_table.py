"""What answers for each name: the table that the manager replaces and request threads read."""

import difflib
import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from model_api.errors import ModelNotReady, ModelRefused, UnknownModel, VersionNotLoaded
from model_api.instance.version import Version


@dataclass(frozen=True)
class Answering:
    """What answers for one model's name. Replaced as a whole when that changes."""

    name: str
    stable: Version | None = None
    canary: Version | None = None
    percent: float = 0.0
    ready: Mapping[str, Version] = field(default_factory=dict)  # by version's name
    why_not: str = "it is being loaded"
    task: str | None = None  # of the stable version, loaded or not
    gone: Mapping[str, str] = field(default_factory=dict)  # by version: what became of it
    refusal: str = ""  # why nothing of it can be served, for good
    refused: Mapping[str, str] = field(default_factory=dict)  # by version: why it can't be served, for good
    undecided: bool = False  # a plain copy that isn't found whole yet, and may be of any task

    def choose(self, tag: str, canary_key: str) -> Version:
        """The version for `name@tag`, "" for the name alone. Raises VersionNotLoaded, ModelRefused or ModelNotReady."""
        if tag == "canary":
            chosen = self.canary
        elif tag:
            chosen = self.ready.get(tag)
        else:
            chosen = self.stable
            if self.canary and in_canary(self.name, self.canary.manifest.digest, canary_key, self.percent):
                chosen = self.canary
            if chosen is None and self.refusal:
                raise ModelRefused(self.name, self.refusal)
            if chosen is None:
                raise ModelNotReady(self.name, self.why_not)
        if chosen is None and tag in self.refused:
            raise ModelRefused(f"{self.name}@{tag}", self.refused[tag])
        if chosen is None:
            raise VersionNotLoaded(self.name, tag, self.gone.get(tag, ""))
        return chosen


def in_canary(model: str, digest: str, key: str, percent: float) -> bool:
    """Whether the caller `key` gets the canary: sticky, and the same on every instance."""
    hashed = hashlib.sha256("\0".join((model, digest, key)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(hashed, "big") % 10_000 < percent * 100


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that a typing mistake away from `name`, if there is one."""
    return next(iter(difflib.get_close_matches(name[:64], names, n=1)), None)


class ServingTable:
    """Read on request threads, replaced on the manager's."""

    def __init__(self) -> None:
        self._rows: Mapping[str, Answering] = {}
        self._complete = False
        self._asked_at: dict[str, float] = {}  # model -> when a caller last asked for it, time.monotonic() seconds
        self._sim: str | None = None
        self._others_asked = False

    def replace(self, rows: Mapping[str, Answering], *, complete: bool, sim_choice: str | None = None) -> None:
        """`complete`: what isn't among them isn't published; else it may only not have been seen yet. `sim_choice`:
        the model that authors chose for /sim."""
        self._rows, self._complete = dict(rows), complete
        self._asked_at = {name: at for name, at in self._asked_at.items() if name in rows}
        if sim_choice is not None and sim_choice in rows:
            self._sim = sim_choice
        elif complete and (self._sim is None or self._sim not in rows):
            embeddings = [row.name for row in rows.values() if row.task == "embedding"]
            alone = len(embeddings) == 1 and not any(row.undecided for row in rows.values())
            self._sim = embeddings[0] if alone and self._others_asked else None

    def sim_model(self) -> str | None:
        """What answers /sim where the caller names no model: the authors' choice, else the one that did so before, else
        the only embedding model. None where that can't be told."""
        return self._sim

    def asks_for_sim_model(self) -> bool:
        """Whether neither the authors nor this instance's memory say what answers /sim, and nobody was asked."""
        return self._complete and self._sim is None and not self._others_asked

    def adopt_sim_model(self, name: str) -> None:
        """What answered /sim in an earlier process of this instance. A choice of the authors comes before it."""
        if self._sim is None:
            self._sim = name

    def hear_sim_model(self, name: str | None) -> None:
        """What answers /sim on the other instances; None if they don't say, and then this one may choose."""
        self._others_asked = True
        if name is not None:
            self.adopt_sim_model(name)

    def asked_at(self) -> Mapping[str, float]:
        """When callers last asked for each model, answered or not: time.monotonic() seconds by name."""
        return dict(self._asked_at)

    def absent(self, name: str) -> ModelNotReady | UnknownModel:
        """What to raise for a name that isn't here: it isn't published, or hasn't been seen yet."""
        if not self._complete:
            return ModelNotReady(name, "this instance hasn't seen yet what is published")
        return UnknownModel(name, nearest(name, self._rows))

    def names(self) -> list[str]:
        return list(self._rows)

    def names_of(self, task: str) -> list[str]:
        """Models whose stable version serves that task now."""
        return [row.name for row in self._rows.values() if row.stable and row.stable.manifest.task == task]

    @contextmanager
    def use(self, selector: str, canary_key: str = "") -> Iterator[Version]:
        """The version that answers for `name`, `name@version` or `name@canary`; it stays loaded inside the block.

        Raises UnknownModel, VersionNotLoaded or ModelNotReady.
        """
        name, _, tag = selector.partition("@")
        while True:
            row = self._rows.get(name)
            if row is None:
                raise self.absent(name)
            self._asked_at[name] = time.monotonic()
            version = row.choose(tag, canary_key)
            if version.acquire():
                break
            # It was swapped between our look and our grip: the table has changed, so look again.
            if self._rows.get(name) is row:
                raise ModelNotReady(name, "this version is going away")
        try:
            yield version
        finally:
            version.release()
