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
from typing import Any

from model_api.errors import ModelApiError, ModelNotReady
from model_api.instance.admission import Admission, Room, protected_digests, taken_out_for
from model_api.instance.load_order import LoadOrder
from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase, plan
from model_api.instance.polling import Mount, Poller
from model_api.instance.readiness import ReadinessLatch
from model_api.instance.showing import Shown
from model_api.instance.starting import GroupStarter
from model_api.instance.status_writer import StatusReporter
from model_api.instance.version import Version
from model_api.instance.watching import Trouble, Watch
from model_api.local_store.local_store import LocalStore
from model_api.processes.group import ProcessGroup
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from model_api.settings import Settings

log = logging.getLogger(__name__)


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
        self._on_group_gone = on_group_gone
        self._admission = Admission(settings)
        self._loads = LoadOrder(max(2, lanes), settings.models, settings.sim_model)
        self._readiness = ReadinessLatch(settings.models)
        self._shown = Shown(self._readiness, on_loaded)
        self.serving = self._shown.serving
        self._starter = GroupStarter(
            settings,
            lanes,
            on_event=lambda group, event: self._events.put(lambda: self._on_group_event(group, event)),
            on_lanes=on_lanes,
        )
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._models: dict[str, ManagedModel] = {}
        self._by_group: dict[ProcessGroup, Version] = {}
        self._leaving: list[Version] = []
        self._watch = Watch(settings.load_timeout_s)
        self._observed = self._stopping = False
        self._repository = Repository(settings.efs_root, settings.settle_s, poll_s=settings.poll_s)
        self._poller = Poller(
            self._repository,
            settings.local_store,
            settings.models,
            settings.poll_s,
            self.serving,
            on_recalled=lambda recalled: self._events.put(lambda: self._take(recalled)),
            on_observed=lambda observed: self._events.put(lambda: self._observe(observed)),
        )
        self._reporter = StatusReporter(settings, self.describe, self.serving, lambda: self._repository.heartbeat_s)
        self._thread = threading.Thread(target=self._run, name="manager", daemon=True)

    def start(self) -> None:
        """Begin; what an earlier web process of this instance left loaded answers when this returns."""
        LocalStore(self._settings.local_store).sweep()
        self._thread.start()
        self._poller.start()
        self._reporter.start()
        self._starter.wait_for_kept()

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
        return self._readiness.ready

    def verdicts(self) -> dict[str, str]:
        """Model name to what is the matter with it, for /readyz."""
        return self._shown.verdicts

    def describe(self) -> list[dict[str, Any]]:
        """Every model as GET /models/<name> shows it."""
        return self._shown.described

    # ---- events, all on the manager's thread ----

    def _run(self) -> None:
        self._starter.begin()
        while not self._stopping:
            try:
                event = self._events.get(timeout=self._seconds_to_next_timer())
            except queue.Empty:
                event = self._replan_all
            for step in (event, self._end_what_hangs, self._start_loads, self._show_in_time):
                try:
                    step()
                except Exception:
                    log.exception("the manager failed on an event")

    def _seconds_to_next_timer(self) -> float:
        times = [v.drain_until for v in self._leaving] + ([self._watch.at] if self._by_group else [])
        if not self._readiness.ready and not self._observed:
            times.append(self._readiness.patient_until())
        times += [v.retry_at for v in self._versions() if v.phase in (Phase.FAILED, Phase.WAITING)]
        times += [pin.until for model in self._models.values() for pin in model.pins.values()]
        return min(3600.0, max(0.0, min(times, default=math.inf) - time.monotonic()))

    def _observe(self, observed: Mapping[str, Published]) -> None:
        self._observed = True
        self._take(observed)

    def _take(self, observed: Mapping[str, Published]) -> None:
        for name in observed.keys() | self._models.keys():
            # A model that a whole look doesn't show is gone for good: the repository keeps what it merely can't read.
            published = observed.get(name) or Published(name, None)
            self._models.setdefault(name, ManagedModel(name, published)).observe(published)
        self._replan_all()
        self._models = {n: m for n, m in self._models.items() if n in observed or m.versions}

    def _replan_all(self) -> None:
        now = time.monotonic()
        for version in [v for v in self._leaving if v.drain_until <= now]:
            version.close()
        for model in self._models.values():
            for version in list(model.versions.values()):
                if version.phase in (Phase.FAILED, Phase.WAITING) and version.retry_at <= now:
                    version.wait_for_turn()
            self._replan(model)
        self._readiness.update(self._models, observed=self._observed)

    def _replan(self, model: ManagedModel) -> None:
        with model.barrier():
            serving = model.serving.ref if model.serving else None
            step = plan(model.refs, model.phases(), serving)
            model.unpin_all_but(step.unload)
            for ref in step.load:
                manifest = model.published.manifests.get(ref.version)
                if manifest is not None and manifest.digest == ref.digest:
                    model.versions[ref] = version = Version(manifest)
                    version.wait_for_turn()
            model.serving = model.versions[step.serve] if step.serve else None
            self._unload(model.let_go(step.unload, time.monotonic(), self._settings.pin_s))

    def _unload(self, leaving: Sequence[Version]) -> None:
        if leaving:  # new requests must go to another version before these stop taking them
            self._show()
        for version in leaving:
            self._drain(version)

    def _start_loads(self) -> None:
        while version := self._loads.next(self._models.values(), self.serving.asked_at()):
            self._load(self._models[version.name], version)
            self._replan(self._models[version.name])

    def _load(self, model: ManagedModel, version: Version) -> None:
        """Begin an attempt; what comes of it arrives as events."""
        version.start_over()
        try:
            protected = protected_digests(self._models.values(), self._leaving)
            order = self._starter.order(version.manifest, model.published, protected)
            room = self._admission.room_for(version.manifest, self._versions(), self._leaving)
            if room.lacking_bytes and not self._starter.is_loaded(order):
                self._wait_for_memory(model, version, room)
                return
            version.group = self._starter.start(order)
        except OSError as error:
            version.fail(f"no process group could be started ({error})")
        except Exception as error:
            log.exception("a load can't be started")
            self._refuse(version, f"its load can't be started ({type(error).__name__})")
        else:
            version.enter("starting")
            self._by_group[version.group] = version

    def _wait_for_memory(self, model: ManagedModel, version: Version, room: Room) -> None:
        """Try again later; what gives way for it leaves now."""
        leaving = taken_out_for(version, model, self._models.values(), room)
        self._unload(leaving)
        version.made_room |= bool(leaving)
        version.wait_for_memory(room.reason())

    def _versions(self) -> list[Version]:
        return [version for model in self._models.values() for version in model.versions.values()]

    def _on_group_event(self, group: ProcessGroup, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        version = self._by_group.pop(group) if kind == "gone" else self._by_group[group]
        if version.group is not group:  # a message of an attempt that was given up
            return
        if kind == "stage":
            self._on_stage(version, event)
        elif kind == "ready":
            version.become_ready(event["precision"], event["precision_reason"], event["memory_bytes"])
        elif kind == "failed":
            self._give_up(version, event["reason"], final=event["final"])
        elif kind == "gone":
            self._on_gone(version)
        if version.name in self._models:
            self._replan(self._models[version.name])
        self._readiness.update(self._models, observed=self._observed)

    def _on_stage(self, version: Version, event: Mapping[str, Any]) -> None:
        if version.observe(event):
            if event.get("encoded_elsewhere"):
                version.log("tokenizer runs in a process of its own", reason=event["encoded_elsewhere"])
            version.log(f"version {event['stage']}", after_s=version.timeline[-1]["after_s"])
        if "unusable" in event:
            self._refuse(version, event["unusable"])

    def _on_gone(self, version: Version) -> None:
        """The group ended: asked to, after a failure, or by a crash."""
        group, version.group = version.group, None
        assert group is not None
        self._on_group_gone(group, ModelNotReady(version.name, "its model processes ended"))
        if version in self._leaving:
            self._leaving.remove(version)
            version.log("version unloaded")
        elif version.phase == Phase.READY:
            version.crash()
        elif version.phase == Phase.LOADING:
            reason, final = version.died_loading(group.exit_status)
            self._give_up(version, reason, final=final)

    def _end_what_hangs(self) -> None:
        for version, trouble in self._watch.look(self._versions()):
            self._end(version, trouble)

    def _end(self, version: Version, trouble: Trouble) -> None:
        version.log("version failed: it hangs", reason=trouble.reason)
        if trouble.fork_server:
            self._starter.replace_fork_server()
        if trouble.final:
            self._refuse(version, trouble.reason)
        else:
            version.end(trouble.reason)

    def _give_up(self, version: Version, reason: str, *, final: bool) -> None:
        if final:
            self._refuse(version, reason)
        else:
            version.fail(reason)

    def _refuse(self, version: Version, reason: str) -> None:
        version.refuse(reason)
        version.log("version refused")
        version.close()

    def _drain(self, version: Version) -> None:
        """Let its requests end, for as long as a request may take, then close it."""
        if version.group is not None:
            version.drain_until = time.monotonic() + self._settings.request_timeout_s
            self._leaving.append(version)
            version.drain(lambda: self._events.put(version.close))

    def _stop(self) -> None:
        self._stopping = True
        groups = list(self._by_group)
        for group in groups:
            group.close()
        for group in groups:
            group.join(timeout_s=5.0)
        self._starter.stop()

    def _show_in_time(self) -> None:
        if self._events.empty() or self._shown.is_old():
            self._show()

    def _show(self) -> None:
        odd, choice = self._repository.oddities, self._poller.sim_choice()
        self._shown.replace(self._models, self._leaving, observed=self._observed, sim_choice=choice, oddities=odd)
