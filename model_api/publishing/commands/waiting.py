"""Follow a version until every live instance serves it.

Stdlib only, Python 3.9: authors run it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from model_api.repository.refs import Ref
from model_api.repository.statuses import Status

LIVE_S = 45.0  # who gave no sign of life for so long is gone; instances look every 20 s at most, and beat often then


class Verdict(Enum):
    CONVERGED = "every live instance serves it"
    REFUSED = "refused by an instance"
    NO_LIVE_STATUS = "no instance reports"
    TIMED_OUT = "not everywhere in time"


@dataclass
class Watch:
    """Pure: fed with looks at the status folder and the time, it says when there is a verdict."""

    name: str
    ref: Ref
    canary: bool
    live_s: float = LIVE_S
    started_s: float = 0.0
    moved_s: dict[str, float] = field(default_factory=dict)  # instance -> when its heartbeat last moved
    heartbeats: dict[str, int] = field(default_factory=dict)
    looks: int = 0

    def look(self, statuses: Mapping[str, Status], now_s: float) -> tuple[Verdict | None, dict[str, str]]:
        """The verdict if it is clear, and what each instance that may be alive is at."""
        if self.looks == 0:
            self.started_s = now_s
        for instance, status in statuses.items():
            new = instance not in self.heartbeats
            if (new and self.looks > 0) or (not new and self.heartbeats[instance] != status.heartbeat):
                self.moved_s[instance] = now_s
            self.heartbeats[instance] = status.heartbeat
        self.looks += 1
        live = {i for i in statuses if now_s - self.moved_s.get(i, self.started_s) <= self.live_s}
        proven = {i for i in live if i in self.moved_s}
        states = {instance: self._state(statuses[instance]) for instance in sorted(live)}
        waited_s = now_s - self.started_s
        if not proven:
            return (Verdict.NO_LIVE_STATUS if waited_s > self.live_s else None), states
        if any(state == "loading" for state in states.values()) or live != proven:
            return None, states
        refused = any(state != "serving" for state in states.values())
        return (Verdict.REFUSED if refused else Verdict.CONVERGED), states

    def _state(self, status: Status) -> str:
        state = status.state_of(self.name, self.ref.digest)
        if state == "serving" or (self.canary and state == "ready"):
            return "serving"
        for refusal in status.model(self.name).get("refused") or ():
            if isinstance(refusal, dict) and refusal.get("version") == self.ref.version:
                return f"refused: {refusal.get('reason', '')}"
        return "loading"


def wait(
    watch: Watch,
    read: Callable[[], Mapping[str, Status]],
    report: Callable[[str], None],
    timeout_s: float,
    interval_s: float = 0.5,
) -> Verdict:
    """Look until there is a verdict, telling `report` a line for each change. Raises OSError if reading fails."""
    deadline_s = time.monotonic() + timeout_s
    told: dict[str, str] = {}
    while True:
        verdict, states = watch.look(read(), time.monotonic())
        for instance, state in states.items():
            if told.get(instance) != state:
                report(f"{instance}: {state}")
        told = states
        if verdict is not None:
            return verdict
        if time.monotonic() > deadline_s:
            return Verdict.TIMED_OUT
        time.sleep(interval_s)
