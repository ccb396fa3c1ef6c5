"""One model on this instance: what is published of it, its versions here, and how both are shown."""

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from model_api.instance.planning import Phase
from model_api.instance.serving_table import Answering
from model_api.instance.version import Version
from model_api.repository.published import Published
from model_api.repository.refs import Canary, Ref, Refs

log = logging.getLogger(__name__)
_GONE_KEPT = 20


@dataclass(frozen=True)
class Pin:
    """A version that serves no longer and still answers `name@version`, until a time.monotonic() second."""

    until: float
    since: str
    pin_s: float


@dataclass
class ManagedModel:
    """What the manager knows of one model. Changed on the manager's thread, under its lock."""

    name: str
    published: Published
    versions: dict[Ref, Version] = field(default_factory=dict)
    serving: Version | None = None
    fault: str = ""  # what went wrong in dealing with it; no other model is concerned
    pins: dict[Ref, Pin] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)  # version -> what became of it, the latest few

    @property
    def refs(self) -> Refs:
        return self.published.refs or Refs(0, None, None, None)

    def observe(self, published: Published) -> None:
        """Take what is published by now. A refusal holds for as long as nobody changes the refs: an author who does may
        have put a damaged version right."""
        if (published.refs or Refs(0)).generation != self.refs.generation:
            self.versions = {ref: v for ref, v in self.versions.items() if v.phase != Phase.REFUSED}
        self.published = published

    @contextmanager
    def barrier(self) -> Iterator[None]:
        """Whatever is raised inside is this model's fault and concerns no other: it keeps what it has."""
        try:
            yield
            self.fault = ""
        except Exception as error:
            log.exception("a model can't be dealt with", extra={"fields": {"model": self.name}})
            self.fault = f"this instance can't deal with it ({type(error).__name__}); see its log"

    def give_way(self, version: Version, lacking_bytes: int) -> Version | None:
        """Take out what serves, where `version`'s option allows the gap and that frees so much; None if it doesn't."""
        serving = self.serving
        if not version.manifest.options.get("unload_first") or serving is None or serving.memory_bytes < lacking_bytes:
            return None
        del self.versions[serving.ref]
        self.serving, version.made_room = None, True
        return serving

    def phases(self) -> dict[Ref, Phase]:
        """Of its versions here, and of those that the refs name and the repository can't read."""
        named = (self.refs.stable, *self.refs.stand_ins())
        unreadable = {ref: Phase.REFUSED for ref in named if ref and ref.version in self.published.refused}
        return unreadable | {ref: version.phase for ref, version in self.versions.items()}

    def attempts(self) -> dict[Ref, int]:
        return {ref: version.attempts for ref, version in self.versions.items()}

    def let_go(self, refs: Collection[Ref], now: float, pin_s: float) -> list[Version]:
        """Take out those versions of `refs`, which the plan would unload, that needn't stay: a ready one still answers
        callers of `name@version` for `pin_s` seconds, unless the model as a whole is unloaded."""
        left = []
        for ref in refs:
            version = self.versions.get(ref)
            if version is None:
                continue
            if version.phase == Phase.READY and self.refs.stable is not None:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                if now < self.pins.setdefault(ref, Pin(now + pin_s, since, pin_s)).until:
                    continue
            left.append(self._take_out(ref))
        return left

    def unpin_all_but(self, refs: Collection[Ref]) -> None:
        """What is named or serves again isn't pinned."""
        self.pins = {ref: pin for ref, pin in self.pins.items() if ref in refs}

    def release_pinned(self) -> list[Version]:
        """Take out all that is only kept for callers of `name@version`."""
        return [self._take_out(ref) for ref in list(self.pins)]

    def _take_out(self, ref: Ref) -> Version:
        pin = self.pins.pop(ref, None)
        if pin is not None and self.refs.stable is not None:
            self.gone.pop(ref.version, None)
            self.gone[ref.version] = (
                f"version {self.refs.stable.version} replaced it at {pin.since}, and pinned callers are answered for"
                f" {pin.pin_s:g} s after that, memory allowing"
            )
            self.gone = dict(list(self.gone.items())[-_GONE_KEPT:])
        return self.versions.pop(ref)

    def state(self) -> str:
        """serving; degraded (something else than stable serves); else how far stable is, refused, or unpublished."""
        if self.serving is not None:
            return "serving" if self.serving.ref == self.refs.stable else "degraded"
        stable = self.versions.get(self.refs.stable) if self.refs.stable else None
        if stable is not None:
            return str(stable.phase)
        if self.published.waiting:
            return "waiting"
        return "refused" if self.published.refused or self.fault else "unpublished"

    def answering(self) -> Answering:
        """What answers for its name."""
        ready = {v.manifest.version: v for v in self.versions.values() if v.phase == Phase.READY}
        canary = self.refs.canary
        chosen = ready.get(canary.version) if canary else None
        percent = canary.percent if canary and chosen else 0.0
        stable = self.published.manifests.get(self.refs.stable.version) if self.refs.stable else None
        task = stable.task if stable else None
        undecided = self.published.plain and self.published.accepted is None
        refused = {v.manifest.version: v.reason for v in self.versions.values() if v.phase == Phase.REFUSED}
        return Answering(
            self.name,
            self.serving,
            chosen,
            percent,
            ready,
            why_not=self._why_not(),
            task=task,
            gone=dict(self.gone),
            refusal=self._refusal(),
            refused=refused,
            undecided=undecided,
        )

    def _refusal(self) -> str:
        """Why nothing of it can be served, for good: stable was refused, and nothing that could stand in is coming."""
        stable = self.versions.get(self.refs.stable) if self.refs.stable else None
        if stable is None or any(version.phase != Phase.REFUSED for version in self.versions.values()):
            return ""
        return f"version {stable.manifest.version} was refused ({stable.reason})"

    def _why_not(self) -> str:
        reason = self.fault or self.published.refused.get("", "")
        return f"it is {self.state()}" + (f" ({reason})" if reason else "")

    def describe(self) -> dict[str, Any]:
        """As GET /models/<name> shows it."""
        serving, refs = self.serving, self.refs
        shown = serving or next(iter(self.versions.values()), None)
        refused = [{"version": version, "reason": reason} for version, reason in self.published.refused.items()]
        refused += [{"version": "", "reason": self.fault}] if self.fault else []
        failed = [version for version in self.versions.values() if version.reason]
        refused += [{"version": version.manifest.version, "reason": version.reason} for version in failed]
        return {
            "name": self.name,
            "task": shown.manifest.task if shown else None,
            "version": serving.manifest.version if serving else None,
            "digest": serving.manifest.digest if serving else None,
            "state": self.state(),
            "precision": serving.precision if serving else None,
            "precision_reason": serving.precision_reason if serving else None,
            "accuracy": serving.accuracy.to_document() if serving and serving.accuracy else None,
            "memory_bytes": sum(version.memory_bytes for version in self.versions.values()),
            "since": serving.since if serving else None,
            "previous": _ref(refs.previous),
            "canary": _canary(refs.canary),
            "refused": refused,
            "versions": [version.describe() for version in self.versions.values()],
        }


def describe_all(models: Mapping[str, ManagedModel], oddities: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of GET /models. `oddities` lie where models lie and are none; each has its reason."""
    rows = []
    for name, model in sorted(models.items()):
        try:
            rows.append(model.describe())
        except Exception as error:
            log.exception("a model can't be described", extra={"fields": {"model": name}})
            rows.append(_unserved(name, "refused", f"can't be described ({type(error).__name__}); see the log"))
    return rows + [_unserved(name, "ignored", why) for name, why in oddities.items()]


def _unserved(name: str, state: str, reason: str) -> dict[str, Any]:
    """In the form of ManagedModel.describe."""
    nothing = dict.fromkeys(("task", "version", "digest", "precision", "since", "previous", "canary"))
    refused = [{"version": "", "reason": reason}]
    return {"name": name, **nothing, "state": state, "memory_bytes": 0, "refused": refused, "versions": []}


def _ref(ref: Ref | None) -> dict[str, Any] | None:
    return None if ref is None else {"version": ref.version, "digest": ref.digest}


def _canary(canary: Canary | None) -> dict[str, Any] | None:
    if canary is None:
        return None
    return {"version": canary.version, "digest": canary.digest, "percent": canary.percent}
