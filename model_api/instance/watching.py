"""Versions whose processes are there and don't do what they should. Decided purely, on the manager's thread."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from model_api.instance.planning import Phase
from model_api.instance.version import Version

WATCH_EVERY_S = 2.0
SILENCE_S = 10.0  # five heartbeats
START_TIMEOUT_S = 60.0  # a fork server that has just begun imports torch first


@dataclass(frozen=True)
class Trouble:
    """`final`: the version is refused, else its group is ended and started anew. `fork_server`: that is what hangs."""

    reason: str
    final: bool = False
    fork_server: bool = False


class Watch:
    """Looks every WATCH_EVERY_S."""

    def __init__(self, load_timeout_s: float) -> None:
        self._load_timeout_s = load_timeout_s
        self.at = 0.0  # of the next look, in time.monotonic() seconds

    def look(self, versions: Sequence[Version]) -> Iterator[tuple[Version, Trouble]]:
        """What is wrong now; nothing if it isn't time for a look."""
        now = time.monotonic()
        if now < self.at:
            return
        self.at = now + WATCH_EVERY_S
        for version in versions:
            trouble = find_trouble(version, now, self._load_timeout_s)
            if trouble is not None:
                yield version, trouble


def find_trouble(version: Version, now: float, load_timeout_s: float) -> Trouble | None:
    """`now` in time.monotonic() seconds."""
    group = version.group
    if group is None or not group.is_open():
        return None
    if group.leader_pid is None:
        if now - group.began_at > START_TIMEOUT_S:
            return Trouble("the fork server doesn't answer", fork_server=True)
        return None
    if version.phase == Phase.LOADING:
        if version.loading_since and now - version.loading_since > load_timeout_s:
            reason = f"not loaded within {load_timeout_s:g} s (MODEL_API_LOAD_TIMEOUT_S)"
            return Trouble(reason, final=not group.is_stopped())
        if now - group.heard_at > SILENCE_S and group.is_stopped():
            return Trouble("its leader was stopped while it loaded")
    # A leader may be slow, or stopped, while its lanes answer: nobody is helped by ending those.
    silent = version.phase == Phase.READY and now - group.heard_at > SILENCE_S
    if silent and group.living_lanes() < group.n_lanes:
        return Trouble("its leader doesn't answer, and lanes are missing")
    return None
