"""One version on this instance: where it is on its way, what answers for it, and how many requests are using it."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from model_api.errors import ModelNotReady, UnknownModel, VersionNotLoaded
from model_api.instance.planning import Phase
from model_api.processes.group import ProcessGroup
from model_api.repository.manifest import Manifest
from model_api.repository.reader import Ref
from model_api.tasks.contract import WebSide


@dataclass(eq=False)
class Version:
    """A version that is loading, ready or failed. The manager's thread alone changes it, but for the use count."""

    manifest: Manifest
    phase: Phase = Phase.LOADING
    group: ProcessGroup | None = None
    web: WebSide | None = None
    precision: str | None = None
    memory_bytes: int = 0
    reason: str = ""
    attempts: int = 0
    made_room: bool = False  # what served before was unloaded for it
    retry_at: float = 0.0  # time.monotonic seconds; of a failed one
    ready_at: float = 0.0
    drain_until: float = 0.0
    timeline: list[dict[str, Any]] = field(default_factory=list)
    _users: int = 0
    _draining: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _on_drained: Callable[[], None] | None = None

    @property
    def ref(self) -> Ref:
        return Ref(self.manifest.version, self.manifest.digest)

    @property
    def name(self) -> str:
        return self.manifest.model

    @property
    def since(self) -> str | None:
        """When it became ready, by this instance's clock, as RFC 3339."""
        if self.phase != Phase.READY:
            return None
        return datetime.fromtimestamp(self.timeline[-1]["at"], UTC).isoformat(timespec="seconds")

    def repeats(self, parameters: Mapping[str, Any]) -> bool:
        """Whether one answer may stand for another of the same request."""
        return self.web is None or self.web.repeatable(parameters)

    def enter(self, stage: str) -> None:
        """Note that `stage` begins: wall clock for people, seconds since the first stage for comparing."""
        now = time.time()
        since = now - self.timeline[0]["at"] if self.timeline else 0.0
        self.timeline.append({"stage": stage, "at": round(now, 3), "after_s": round(since, 3)})

    def describe(self) -> dict[str, Any]:
        """As GET /models/<name> lists it."""
        return {
            "version": self.manifest.version,
            "digest": self.manifest.digest,
            "state": str(self.phase),
            "reason": self.reason or None,
            "since": self.since,
            "precision": self.precision,
            "memory_bytes": self.memory_bytes,
            "timeline": [dict(entry) for entry in self.timeline],
        }

    def start_over(self) -> None:
        """Another attempt begins."""
        self.phase, self.reason, self.group, self.timeline = Phase.LOADING, "", None, []

    def acquire(self) -> bool:
        """A request begins to use it; False if it is on its way out already."""
        with self._lock:
            if self._draining:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            drained = self._on_drained if self._draining and not self._users else None
        if drained:
            drained()

    def drain(self, on_drained: Callable[[], None]) -> None:
        """No new user from now on; `on_drained` is called when the last one has gone, on its thread, or at once."""
        with self._lock:
            self._draining, self._on_drained = True, on_drained
            idle = not self._users
        if idle:
            on_drained()


@dataclass(frozen=True)
class Route:
    """What answers for one model's name. Replaced as a whole when that changes."""

    name: str
    stable: Version | None = None
    canary: Version | None = None
    percent: float = 0.0
    ready: Mapping[str, Version] = field(default_factory=dict)  # by version's name
    why_not: str = "it is being loaded"

    def choose(self, tag: str, canary_key: str) -> Version:
        """The version for `name@tag`, "" for the name alone. Raises VersionNotLoaded or ModelNotReady."""
        if tag == "canary":
            chosen = self.canary
        elif tag:
            chosen = self.ready.get(tag)
        else:
            chosen = self.stable
            if self.canary and in_canary(self.name, self.canary.manifest.digest, canary_key, self.percent):
                chosen = self.canary
            if chosen is None:
                raise ModelNotReady(self.name, self.why_not)
        if chosen is None:
            raise VersionNotLoaded(self.name, tag)
        return chosen


def in_canary(model: str, digest: str, key: str, percent: float) -> bool:
    """Whether the caller `key` gets the canary: sticky, and the same on every instance."""
    hashed = hashlib.sha256("\0".join((model, digest, key)).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(hashed, "big") % 10_000 < percent * 100


class Routes:
    """The routing table: read on request threads, replaced on the manager's."""

    def __init__(self) -> None:
        self._routes: Mapping[str, Route] = {}
        self._complete = False

    def replace(self, routes: Mapping[str, Route], *, complete: bool) -> None:
        """`complete`: what isn't among them isn't published; else it may only not have been seen yet."""
        self._routes, self._complete = dict(routes), complete

    def names(self) -> list[str]:
        return list(self._routes)

    def embedding_names(self) -> list[str]:
        """Models that serve vectors now."""
        return [r.name for r in self._routes.values() if r.stable and r.stable.manifest.task == "embedding"]

    @contextmanager
    def use(self, selector: str, canary_key: str = "") -> Iterator[Version]:
        """The version that answers for `name`, `name@version` or `name@canary`; it stays loaded inside the block.

        Raises UnknownModel, VersionNotLoaded or ModelNotReady.
        """
        name, _, tag = selector.partition("@")
        while True:
            route = self._routes.get(name)
            if route is None:
                if not self._complete:
                    raise ModelNotReady(name, "this instance hasn't seen yet what is published")
                raise UnknownModel(name)
            version = route.choose(tag, canary_key)
            if version.acquire():
                break
            # It was swapped between our look and our grip: the table has changed, so look again.
            if self._routes.get(name) is route:
                raise ModelNotReady(name, "this version is going away")
        try:
            yield version
        finally:
            version.release()
