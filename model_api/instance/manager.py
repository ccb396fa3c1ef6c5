"""What is loaded on this instance: one thread turns what is published into process groups and routes.

Everything that happens (a look at the repository, a message of a leader, a group's end) arrives as an event on one
queue; after each, planning.plan decides and this module acts. Nothing here waits for a file system or a model.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model_api.errors import ModelApiError, ModelNotReady
from model_api.instance import memory
from model_api.instance.managed_model import LoadedModel
from model_api.instance.planning import ATTEMPTS_BEFORE_VERDICT, Phase, has_verdict, plan
from model_api.instance.polling import Mount, Poller
from model_api.instance.status_writer import StatusReporter
from model_api.instance.version import Routes, Version
from model_api.local_store.local_store import LocalStore
from model_api.processes.fork_server import ForkServer
from model_api.processes.group import ProcessGroup
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.repository.reader import Published, Repository
from model_api.settings import Settings
from model_api.tasks import find_task, is_long_running, loading_bytes
from model_api.tasks.contract import Limits

log = logging.getLogger(__name__)

_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 60.0
_WAITS = 60  # tries, half a second apart, for the memory of an unloaded version to come free
_RECALL_PATIENCE_S = 5.0  # a start waits so long for the repository before it serves what it remembers
_CRASH_MEMORY_S = 60.0  # a version that lived this long is started again at once


class Manager:
    """Owner of all loaded versions. `start` and `stop` once each; the rest on any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        lanes: int,
        on_lanes: Callable[[], None],
        on_group_gone: Callable[[ProcessGroup, ModelApiError], None],
        on_loaded: Callable[[Iterable[Sequence[str]]], None],
    ) -> None:
        """`lanes` is how many each version gets. Called on threads of this package: `on_lanes` when a lane became free
        by being started, `on_group_gone` with what its waiting requests should hear, `on_loaded` with the rows (model,
        version, state) of what is loaded whenever that may have changed."""
        self._settings = settings
        self._lanes = lanes
        self._on_lanes = on_lanes
        self._on_group_gone = on_group_gone
        self._on_loaded = on_loaded
        self.routes = Routes()
        self._started_at = time.monotonic()
        self._fork_server = ForkServer()
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _models for describe(), which runs on request threads
        self._models: dict[str, LoadedModel] = {}
        self._by_group: dict[ProcessGroup, Version] = {}
        self._leaving: list[Version] = []
        self._observed = False
        self._ready = False
        self._stopping = False
        self._poller = Poller(
            Repository(settings.efs_root, settings.settle_s),
            settings.local_store,
            settings.models,
            settings.poll_s,
            on_recalled=lambda recalled: self._events.put(lambda: self._take(recalled)),
            on_observed=lambda observed: self._events.put(lambda: self._observe(observed)),
        )
        self._reporter = StatusReporter(settings, self.describe)
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)

    def start(self) -> None:
        LocalStore(self._settings.local_store).sweep()
        self._thread.start()
        self._poller.start()
        self._reporter.start()

    def stop(self) -> None:
        """End all groups and threads; what runs is cut off, so drain before."""
        self._poller.stop()
        self._reporter.stop()
        self._events.put(self._stop)
        self._thread.join()

    def mount(self) -> Mount:
        return self._poller.mount()

    def is_ready(self) -> bool:
        """Latched: once every model had its verdict, ready until the process ends."""
        return self._ready

    def verdicts(self) -> dict[str, str]:
        """Model name to what is the matter with it, for /readyz."""
        with self._lock:
            names = self._settings.models or tuple(self._models)
            return {name: self._models[name].state() if name in self._models else "not published" for name in names}

    def describe(self) -> list[dict[str, Any]]:
        """Every model as GET /models/<name> shows it."""
        with self._lock:
            return [model.describe() for _, model in sorted(self._models.items())]

    # ---- events, all on the manager's thread ----

    def _run(self) -> None:
        self._fork_server.start()
        while not self._stopping:
            try:
                event = self._events.get(timeout=self._seconds_to_next_timer())
            except queue.Empty:
                event = self._replan_all
            try:
                with self._lock:
                    event()
                    self._publish_routes()
            except Exception:
                log.exception("the manager failed on an event")

    def _seconds_to_next_timer(self) -> float:
        times = [v.drain_until for v in self._leaving]
        if not self._ready:
            times.append(self._started_at + _RECALL_PATIENCE_S if not self._observed else math.inf)
        versions = [v for m in self._models.values() for v in m.versions.values()]
        times += [v.retry_at for v in versions if v.phase in (Phase.FAILED, Phase.WAITING)]
        return min(3600.0, max(0.0, min(times, default=math.inf) - time.monotonic()))

    def _observe(self, observed: Mapping[str, Published]) -> None:
        self._observed = True
        self._take(observed)

    def _take(self, observed: Mapping[str, Published]) -> None:
        for name in observed.keys() | self._models.keys():
            # A model that a whole look doesn't show is gone for good: the repository keeps what it merely can't read.
            published = observed.get(name) or Published(name, None)
            self._models.setdefault(name, LoadedModel(name, published)).published = published
        self._replan_all()
        self._models = {n: m for n, m in self._models.items() if n in observed or m.versions}

    def _replan_all(self) -> None:
        now = time.monotonic()
        for version in [v for v in self._leaving if v.drain_until <= now]:
            self._close(version)
        for model in self._models.values():
            for version in list(model.versions.values()):
                if version.phase in (Phase.FAILED, Phase.WAITING) and version.retry_at <= now:
                    self._load(model, version)
            self._replan(model)
        self._latch_readiness()

    def _replan(self, model: LoadedModel) -> None:
        serving = model.serving.ref if model.serving else None
        step = plan(model.refs, model.phases(), serving)
        for ref in step.load:
            manifest = model.published.manifests.get(ref.version)
            if manifest is not None and manifest.digest == ref.digest:
                model.versions[ref] = version = Version(manifest)
                self._load(model, version)
        model.serving = model.versions[step.serve] if step.serve else None
        leaving = [model.versions.pop(ref) for ref in step.unload if ref in model.versions]
        # New requests must go to the new version before the old one stops taking them.
        self._publish_routes()
        for version in leaving:
            self._drain(version)

    def _load(self, model: LoadedModel, version: Version) -> None:
        """Begin an attempt; what comes of it arrives as events."""
        version.start_over()
        lacking_bytes = self._lacking_bytes(version.manifest)
        if lacking_bytes > 0:
            self._wait_for_memory(model, version, lacking_bytes)
            return
        spec = LeaderSpec(
            manifest=version.manifest,
            source=str(model.published.sources[version.manifest.version]),
            immutable=not model.published.plain,
            protected=self._protected_digests(),
            local_store=str(self._settings.local_store),
            store_budget_bytes=self._settings.store_budget_bytes,
            precision=self._settings.precision,
            lanes=1 if is_long_running(version.manifest.task) else self._lanes,
        )
        try:
            control = self._fork_server.spawn(spec)
        except OSError as error:
            self._fail(version, f"no process group could be started ({error})")
            return
        version.enter("starting")
        version.group = ProcessGroup(
            control,
            on_event=lambda group, event: self._receive(group, event, version.manifest),
            on_lane=self._on_lanes,
            name=f"{version.name}@{version.manifest.version}",
            long_running=is_long_running(version.manifest.task),
        )
        self._by_group[version.group] = version

    def _wait_for_memory(self, model: LoadedModel, version: Version, lacking_bytes: int) -> None:
        """Try again later; where the model's option allows a gap and that makes room, unload what serves first."""
        peak_bytes = self._loading_bytes(version.manifest)
        free_bytes = max(0, peak_bytes - lacking_bytes)
        reason = f"not enough memory: loading peaks at {peak_bytes / 1e6:.0f} MB, {free_bytes / 1e6:.0f} MB are free"
        serving = model.serving
        if version.manifest.options.get("unload_first") and serving and serving.memory_bytes >= lacking_bytes:
            self._log("version unloaded first", serving, reason=reason)
            del model.versions[serving.ref]
            model.serving = None
            self._publish_routes()
            self._drain(serving)
            version.made_room = True
        self._fail(version, reason)
        if version.made_room and version.attempts < _WAITS:  # what was unloaded is on its way out
            version.phase, version.retry_at = Phase.WAITING, time.monotonic() + _FIRST_RETRY_S

    def _protected_digests(self) -> tuple[str, ...]:
        """Copies in the local store that must not make room for others: what is loaded, and every `previous`."""
        digests = {v.manifest.digest for m in self._models.values() for v in m.versions.values()}
        digests |= {v.manifest.digest for v in self._leaving}
        digests |= {m.refs.previous.digest for m in self._models.values() if m.refs.previous}
        return tuple(sorted(digests))

    def _lacking_bytes(self, manifest: Manifest) -> int:
        """How much memory the peak of loading `manifest` needs beyond what is free and not promised to other loads."""
        versions = [v for m in self._models.values() for v in m.versions.values()]
        loading = [v for v in versions if v.phase == Phase.LOADING and v.group is not None]
        needed_bytes = sum(self._loading_bytes(m) for m in (manifest, *(v.manifest for v in loading)))
        free = [free_bytes for free_bytes in (memory.available_bytes(),) if free_bytes is not None]
        if self._settings.memory_budget_bytes is not None:
            loaded_bytes = sum(v.memory_bytes for v in [*versions, *self._leaving])
            free.append(self._settings.memory_budget_bytes - loaded_bytes)
        return needed_bytes - min(free) if free else 0

    def _loading_bytes(self, manifest: Manifest) -> int:
        folder = LocalStore(self._settings.local_store).folder(manifest.digest)
        return loading_bytes(folder, manifest, self._settings.precision)

    def _receive(self, group: ProcessGroup, event: Mapping[str, Any], manifest: Manifest) -> None:
        """On the group's reader thread: do what takes a while here, and pass the event on."""
        found: dict[str, Any] = {}
        if event.get("stage") == "loading":
            limits = Limits(self._settings.max_text_chars)
            try:
                found["web"] = find_task(manifest.task).open_web(Path(event["folder"]), manifest, limits)
            except Exception as error:
                found["unusable"] = str(error) or type(error).__name__
        elif event["event"] == "ready":
            found["memory_bytes"] = memory.proportional_bytes(group.pids())
        self._events.put(lambda: self._on_group_event(group, {**event, **found}))

    def _on_group_event(self, group: ProcessGroup, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        version = self._by_group.pop(group) if kind == "gone" else self._by_group[group]
        if version.group is not group:  # a message of an attempt that was given up
            return
        if kind == "stage":
            self._on_stage(version, event)
        elif kind == "ready":
            version.phase, version.precision, version.ready_at = Phase.READY, event["precision"], time.monotonic()
            version.memory_bytes = event["memory_bytes"]
            version.enter("ready")
            self._log("version ready", version, after_s=version.timeline[-1]["after_s"], precision=version.precision)
        elif kind == "failed":
            if event["final"]:
                self._refuse(version, event["reason"])
            else:
                self._fail(version, event["reason"])
        elif kind == "gone":
            self._on_gone(version)
        if version.name in self._models:
            self._replan(self._models[version.name])
        self._latch_readiness()

    def _on_stage(self, version: Version, event: Mapping[str, Any]) -> None:
        if version.timeline[-1]["stage"] == event["stage"]:  # the same stage tells how far it is
            version.timeline[-1]["done_bytes"] = event["done_bytes"]
            return
        version.enter(event["stage"])
        self._log(f"version {event['stage']}", version, after_s=version.timeline[-1]["after_s"])
        if "web" in event:
            version.web = event["web"]
        elif "unusable" in event:
            self._refuse(version, event["unusable"])

    def _on_gone(self, version: Version) -> None:
        """The group ended: asked to, after a failure, or by a crash."""
        group, version.group = version.group, None
        assert group is not None
        self._on_group_gone(group, ModelNotReady(version.name, "its model processes ended"))
        if version in self._leaving:
            self._leaving.remove(version)
            self._log("version unloaded", version)
        elif version.phase == Phase.READY:
            lived_s = time.monotonic() - version.ready_at
            version.attempts = 0 if lived_s > _CRASH_MEMORY_S else version.attempts + 1
            self._fail(version, "its model processes crashed", count=False)
            if version.attempts < ATTEMPTS_BEFORE_VERDICT:  # it will be back before `previous` could stand in
                version.phase = Phase.WAITING
        elif version.phase == Phase.LOADING:
            self._fail(version, f"its processes ended during {version.timeline[-1]['stage']} (out of memory?)")

    def _fail(self, version: Version, reason: str, *, count: bool = True) -> None:
        version.attempts += count
        version.phase, version.reason = Phase.FAILED, reason
        delay_s = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** max(0, version.attempts - 1)) if version.attempts else 0.0
        version.retry_at = time.monotonic() + delay_s
        self._log("version failed", version, reason=reason, retry_in_s=delay_s)

    def _refuse(self, version: Version, reason: str) -> None:
        version.phase, version.reason = Phase.REFUSED, reason
        self._log("version refused", version, reason=reason)
        if version.group is not None:
            version.group.close()

    def _drain(self, version: Version) -> None:
        """Let its requests end, for as long as a request may take, then close it."""
        if version.group is not None:
            version.drain_until = time.monotonic() + self._settings.request_timeout_s
            self._leaving.append(version)
            version.drain(lambda: self._events.put(lambda: self._close(version)))

    def _close(self, version: Version) -> None:
        """End its group; that it has ended arrives as an event."""
        version.drain_until = math.inf
        if version.group is not None:
            version.group.close()

    def _stop(self) -> None:
        self._stopping = True
        groups = list(self._by_group)
        for group in groups:
            group.close()
        for group in groups:
            group.join(timeout_s=5.0)
        self._fork_server.stop()

    # ---- what others see ----

    def _publish_routes(self) -> None:
        routes = {name: model.route() for name, model in self._models.items()}
        self.routes.replace(routes, complete=self._observed)
        versions = [v for model in self._models.values() for v in model.versions.values()]
        rows = [(v.name, v.manifest.version, str(v.phase)) for v in versions]
        self._on_loaded(rows + [(v.name, v.manifest.version, "draining") for v in self._leaving])

    def _latch_readiness(self) -> None:
        # What an earlier process saw is served at once, but may be old: a moment's patience for the repository.
        patient = time.monotonic() - self._started_at < _RECALL_PATIENCE_S
        if self._ready or not (self._observed or (self._models and not patient)):
            return
        names = self._settings.models or tuple(self._models)
        for name in names:
            model = self._models.get(name)
            if model is None:
                return
            serving = model.serving.ref if model.serving else None
            if not has_verdict(model.refs, model.phases(), serving, model.attempts()):
                return
        self._ready = True
        states = {name: self._models[name].state() for name in names}
        log.info("instance ready", extra={"fields": {"models": states}})

    def _log(self, message: str, version: Version, **fields: Any) -> None:
        level = logging.WARNING if "failed" in message or "refused" in message else logging.INFO
        fields = {"model": version.name, "version": version.manifest.version, **fields}
        log.log(level, message, extra={"fields": fields})
