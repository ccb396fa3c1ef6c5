"""Follow a change until every live instance has made it.

Stdlib only, Python 3.9: authors run it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from model_api.repository.refs import Ref, Refs
from model_api.repository.statuses import Said, Status

LIVE_S = 45.0  # who gave no sign of life for so long is gone; instances look every 20 s at most, and beat often then
LOOK_EVERY_S = 0.5


class Verdict(Enum):
    CONVERGED = "every live instance serves it"
    REFUSED = "refused by an instance"
    NO_LIVE_STATUS = "no instance reports"
    TIMED_OUT = "not everywhere in time"
    SUPERSEDED = "superseded"
    EXCLUDED = "no live instance is set up to serve it (MODEL_API_MODELS)"


@dataclass(frozen=True)
class Sight:
    """What lies in the store at one moment."""

    refs: Refs
    statuses: Mapping[str, Status]


@dataclass
class Heartbeats:
    """Who lives, by nothing but heartbeats that move and this process's own clock."""

    live_s: float
    started_s: float | None = None
    moved_s: dict[str, float] = field(default_factory=dict)  # instance -> when its heartbeat last moved
    last: dict[str, int] = field(default_factory=dict)

    def look(self, statuses: Mapping[str, Status], now_s: float) -> None:
        first = self.started_s is None
        if self.started_s is None:
            self.started_s = now_s
        for instance, status in statuses.items():
            new = instance not in self.last
            if (new and not first) or (not new and self.last[instance] != status.heartbeat):
                self.moved_s[instance] = now_s
            self.last[instance] = status.heartbeat

    def waited_s(self, now_s: float) -> float:
        return now_s - (now_s if self.started_s is None else self.started_s)

    def may_live(self, instance: str, now_s: float) -> bool:
        """It moved not long ago, or nobody has looked for long enough to know."""
        return now_s - self.moved_s.get(instance, self.started_s or 0.0) <= self.live_s

    def moved(self, instance: str) -> bool:
        return instance in self.moved_s


class Watch:
    """Pure: fed with looks at the store and the time, it says when there is a verdict. This one waits for `ref` to
    serve, or to be ready as the canary."""

    def __init__(self, name: str, ref: Ref, canary: bool = False, live_s: float = LIVE_S, hasty: bool = False) -> None:
        """`hasty`: the first refusal decides, whatever the others are at."""
        self.name, self.ref = name, ref
        self._canary, self._hasty = canary, hasty
        self._beats = Heartbeats(live_s)
        self.statuses: Mapping[str, Status] = {}  # of those that were proven alive at the last look
        self.superseded_by = ""

    def look(self, sight: Sight, now_s: float) -> tuple[Verdict | None, dict[str, Said]]:
        """The verdict if it is clear, and what each instance is at."""
        beats, statuses = self._beats, sight.statuses
        beats.look(statuses, now_s)
        live = {i for i in statuses if beats.may_live(i, now_s)}
        proven = {i for i in live if beats.moved(i)}
        self.statuses = {i: statuses[i] for i in proven}
        said = {i: self._said(statuses[i]) if i in live else Said("silent") for i in sorted(statuses)}
        self.superseded_by = self._superseded_by(sight.refs)
        if self.superseded_by:
            return Verdict.SUPERSEDED, said
        refusing = [i for i in proven if said[i].state == "refused"]
        if refusing and self._hasty:
            return Verdict.REFUSED, said
        if not proven:
            return (Verdict.NO_LIVE_STATUS if beats.waited_s(now_s) > beats.live_s else None), said
        if live != proven:
            return None, said
        counted = [i for i in live if said[i].state != "excluded"]
        if not counted:
            return Verdict.EXCLUDED, said
        if any(not self._is_decided(said[i]) for i in counted):
            return None, said
        return (Verdict.REFUSED if refusing else Verdict.CONVERGED), said

    def refusals(self) -> dict[str, Said]:
        """What the live instances that refuse it said at the last look."""
        said = {instance: self._said(status) for instance, status in self.statuses.items()}
        return {instance: one for instance, one in said.items() if one.state == "refused"}

    def words(self, verdict: Verdict) -> str:
        if verdict is Verdict.SUPERSEDED:
            return self.superseded_by
        if verdict is Verdict.CONVERGED and self._canary:
            return "every live instance has the canary ready"
        return str(verdict.value)

    def _said(self, status: Status) -> Said:
        said = status.said_of(self.name, self.ref)
        return Said("serving as the canary") if self._canary and said.is_ready else said

    def _is_decided(self, said: Said) -> bool:
        return said.state in ("serving", "serving as the canary", "refused")

    def _superseded_by(self, refs: Refs) -> str:
        """Why nobody need serve it any more, "" if it is still wanted."""
        wanted = refs.canary.ref if self._canary and refs.canary is not None else refs.stable
        if wanted == self.ref:
            return ""
        if refs.deleted:
            return f"superseded: the model is {refs.deleted}"
        if self._canary:
            what = f"version {refs.canary.version} is the canary now" if refs.canary else "the canary was ended"
            return f"superseded: {what}"
        return (
            f"superseded by version {refs.stable.version}, which is stable" if refs.stable else "taken out of service"
        )


class Absence(Watch):
    """Waits until no live instance has `ref` loaded; or, for ref None, anything of the model."""

    def __init__(self, name: str, ref: Ref | None, live_s: float = LIVE_S) -> None:
        super().__init__(name, ref or Ref("", ""), live_s=live_s)
        self._whole = ref is None

    def words(self, verdict: Verdict) -> str:
        return "no live instance has it any more" if verdict is Verdict.CONVERGED else super().words(verdict)

    def _said(self, status: Status) -> Said:
        model = status.model(self.name)
        if not self._whole:
            state = status.state_of(self.name, self.ref.digest)
            return Said(state if state in ("serving", "ready", "loading") else "gone")
        loaded = [v for v in model.get("versions") or () if isinstance(v, dict)]
        return Said(f"still has version {model.get('version') or loaded[0].get('version')}") if loaded else Said("gone")

    def _is_decided(self, said: Said) -> bool:
        return said.state == "gone"

    def _superseded_by(self, refs: Refs) -> str:
        if self._whole:
            return f"superseded: version {refs.stable.version} is stable" if refs.stable else ""
        return "superseded: it is named again" if self.ref.version in refs.named() else ""


def wait(
    watch: Watch,
    read: Callable[[], Sight],
    report: Callable[[str], None],
    timeout_s: float,
) -> Verdict:
    """Look until there is a verdict, telling `report` a line for each change. Raises OSError if reading fails."""
    deadline_s = time.monotonic() + timeout_s
    told: dict[str, Said] = {}
    while True:
        verdict, said = watch.look(read(), time.monotonic())
        for instance, one in said.items():
            if told.get(instance) != one:
                report(f"{instance}: {one}")
        told = said
        if verdict is not None:
            return verdict
        if time.monotonic() > deadline_s:
            return Verdict.TIMED_OUT
        time.sleep(LOOK_EVERY_S)


def living(
    read: Callable[[], Mapping[str, Status]], instances: Callable[[Mapping[str, Status]], set[str]], live_s: float
) -> dict[str, Status]:
    """The statuses, without those of `instances` (asked anew at each look) whose heartbeat stands still for `live_s`.
    Returns at once where there are none, else as soon as it is known of each."""
    beats = Heartbeats(live_s)
    while True:
        now_s, statuses = time.monotonic(), read()
        beats.look(statuses, now_s)
        open_ = {i for i in instances(statuses) if beats.may_live(i, now_s)}
        if all(beats.moved(i) for i in open_):
            dead = instances(statuses) - open_
            return {instance: status for instance, status in statuses.items() if instance not in dead}
        time.sleep(min(LOOK_EVERY_S, live_s / 4))
