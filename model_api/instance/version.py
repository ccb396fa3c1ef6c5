"""One version on this instance: where it is on its way, what answers for it, and how many requests are using it."""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from model_api.instance.planning import ATTEMPTS_BEFORE_VERDICT, Phase
from model_api.processes.group import ProcessGroup
from model_api.repository.accuracy import Accuracy
from model_api.repository.manifest import Manifest
from model_api.repository.refs import Ref
from model_api.tasks.contract import WebSide

log = logging.getLogger(__name__)

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)  # nobody sends these from outside
FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 60.0
_WAITS = 60  # tries, half a second apart, for the memory of an unloaded version to come free
_CRASH_MEMORY_S = 60.0  # a version that lived this long is started again at once


@dataclass(eq=False)
class Version:
    """A version that is loading, ready or failed. The manager's thread alone changes it, but for the use count."""

    manifest: Manifest
    phase: Phase = Phase.LOADING
    group: ProcessGroup | None = None
    web: WebSide | None = None
    precision: str | None = None
    precision_reason: str | None = None  # why it isn't the one that was asked for
    memory_bytes: int = 0
    reason: str = ""
    attempts: int = 0
    made_room: bool = False  # what served before was unloaded for it
    retry_at: float = 0.0  # time.monotonic seconds; of a failed one
    queued: bool = False  # it waits for its turn to load
    moved_at: float = 0.0  # time.monotonic seconds of the last sign of life of its load
    ready_at: float = 0.0
    loading_since: float = 0.0  # its copy being there; 0 before
    encodes_apart: bool = False  # its tokenizer runs in a process of its own
    trouble: str = ""  # for which its group was ended
    native_crashes: int = 0  # while loading, one after the other
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

    @property
    def accuracy(self) -> Accuracy | None:
        """What its precision costs beside float32, as its publish measured it; None where that isn't known."""
        measured = self.manifest.accuracy
        return measured if measured is not None and measured.precision == self.precision else None

    def repeats(self, parameters: Mapping[str, Any]) -> bool:
        """Whether one answer may stand for another of the same request."""
        return self.web is None or self.web.repeatable(parameters)

    def enter(self, stage: str) -> None:
        """Note that `stage` begins: wall clock for people, seconds since the first stage for comparing."""
        now, self.moved_at = time.time(), time.monotonic()
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
            "precision_reason": self.precision_reason,
            "accuracy": self.accuracy.to_document() if self.accuracy else None,
            "memory_bytes": self.memory_bytes,
            "timeline": [dict(entry) for entry in self.timeline],
        }

    def wait_for_turn(self) -> None:
        """To load, after others."""
        self.phase, self.reason, self.retry_at, self.queued = Phase.WAITING, "", math.inf, True

    def log(self, message: str, **fields: Any) -> None:
        """A line with its name, and with its reason where something is wrong."""
        level = logging.WARNING if "failed" in message or "refused" in message else logging.INFO
        reason = {"reason": self.reason} if self.reason else {}
        fields = {"model": self.name, "version": self.manifest.version, **reason, **fields}
        log.log(level, message, extra={"fields": fields})

    def start_over(self) -> None:
        """Another attempt begins."""
        self.phase, self.reason, self.group, self.timeline = Phase.LOADING, "", None, []
        self.loading_since, self.trouble = 0.0, ""
        self.queued, self.moved_at = False, time.monotonic()

    def observe(self, stage: Mapping[str, Any]) -> bool:
        """Take the leader's message of a stage; whether it is a new one, not how far the same one is."""
        self.moved_at = time.monotonic()
        if self.timeline[-1]["stage"] == stage["stage"]:
            self.timeline[-1]["done_bytes"] = stage["done_bytes"]
            return False
        self.enter(stage["stage"])
        if "folder" in stage:  # the copy is there: it is loading, or was loaded for an earlier web process
            self.loading_since = time.monotonic()
            self.encodes_apart = bool(stage.get("encoded_elsewhere"))
        self.web = stage.get("web", self.web)
        return True

    def become_ready(self, precision: str, precision_reason: str | None, memory_bytes: int) -> None:
        self.phase, self.memory_bytes = Phase.READY, memory_bytes
        self.precision, self.precision_reason = precision, precision_reason
        self.ready_at = time.monotonic()
        self.enter("ready")
        why = {"precision_reason": precision_reason} if precision_reason else {}
        self.log("version ready", after_s=self.timeline[-1]["after_s"], precision=precision, **why)

    def fail(self, reason: str, *, count: bool = True) -> None:
        """This attempt failed for a reason that may pass; the next one begins after a pause, which grows."""
        self.attempts += count
        self.phase, self.reason = Phase.FAILED, reason
        pause_s = min(_LAST_RETRY_S, FIRST_RETRY_S * 2 ** max(0, self.attempts - 1)) if self.attempts else 0.0
        self.retry_at = time.monotonic() + pause_s
        self.log("version failed", retry_in_s=pause_s)

    def wait_for_memory(self, reason: str) -> None:
        """As `fail`, but soon tried again where something made room for it: that is on its way out."""
        self.fail(reason)
        if self.made_room and self.attempts < _WAITS:
            self.phase, self.retry_at = Phase.WAITING, time.monotonic() + FIRST_RETRY_S

    def died_loading(self, exit_status: int | None) -> tuple[str, bool]:
        """Its processes ended before it was ready; `exit_status` of the leader, negative for a signal. Why, and whether
        that is final: a loader that crashes twice on the same content will do so a third time."""
        stage = self.timeline[-1]["stage"]
        if self.trouble:
            return self.trouble, False
        if exit_status is not None and -exit_status in _CRASHES:
            self.native_crashes += 1
            name = signal.Signals(-exit_status).name
            return f"its content crashes the process that loads it ({name} during {stage})", self.native_crashes > 1
        return f"its processes ended during {stage} (out of memory?)", False

    def crash(self) -> None:
        """Its processes ended while it was ready; as `fail`."""
        lived_s = time.monotonic() - self.ready_at
        self.attempts = 0 if lived_s > _CRASH_MEMORY_S else self.attempts + 1
        self.fail(self.trouble or "its model processes crashed", count=False)
        if self.attempts < ATTEMPTS_BEFORE_VERDICT:  # it will be back before `previous` could stand in
            self.phase = Phase.WAITING

    def refuse(self, reason: str) -> None:
        """For good."""
        self.phase, self.reason = Phase.REFUSED, reason

    def close(self) -> None:
        """End its group; that it has ended arrives as an event."""
        self.drain_until = math.inf
        if self.group is not None:
            self.group.close()

    def end(self, trouble: str) -> None:
        """Its processes are there and don't do what they should: end them, to be started anew."""
        self.trouble = trouble
        if self.group is not None:
            self.group.close()

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
