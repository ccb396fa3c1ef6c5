"""Starting a version's process group, and what the web process must have beside it. Manager's thread, but for what
the groups' reader threads do."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.instance import memory
from model_api.processes.fork_server import ForkServer
from model_api.processes.group import ProcessGroup
from model_api.processes.keeping import keeper
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.repository.published import Published
from model_api.settings import Settings
from model_api.tasks import is_interruptible, is_long_running, open_web
from model_api.tasks.contract import Limits

KEPT_TIMEOUT_S = 2.0  # a start waits so long for what was loaded already
OnEvent = Callable[[ProcessGroup, Mapping[str, Any]], None]


class GroupStarter:
    """Owner of the fork server."""

    def __init__(self, settings: Settings, lanes: int, on_event: OnEvent, on_lanes: Callable[[], None]) -> None:
        """`on_event` and `on_lanes` are called on the groups' reader threads; see ProcessGroup."""
        self._settings = settings
        self._lanes = lanes
        self._on_event = on_event
        self._on_lanes = on_lanes
        self._fork_server = ForkServer(keeper())
        self._adopted: set[str] = set()  # keys of orders that found their version loaded, and aren't ready yet
        self._settled = threading.Event()

    def begin(self) -> None:
        """Meet or start the fork server. On the thread that calls everything else here."""
        self._fork_server.meet()
        self._look_settled()
        self._fork_server.start()

    def wait_for_kept(self) -> None:
        """Until what an earlier web process left answers here, for KEPT_TIMEOUT_S at most: callers who come meanwhile
        had better wait for a moment than hear that nothing is loaded. Any thread."""
        self._settled.wait(KEPT_TIMEOUT_S)

    def _look_settled(self) -> None:
        if not self._fork_server.waiting() and not self._adopted:
            self._settled.set()

    def stop(self) -> None:
        self._fork_server.stop()

    def replace_fork_server(self) -> None:
        """It doesn't answer: the next groups come from another one."""
        self._fork_server.replace()

    def order(self, manifest: Manifest, published: Published, protected: tuple[str, ...]) -> LeaderSpec:
        """What a group is asked for that is to load `manifest`."""
        signers = self._settings.trusted_signers
        return LeaderSpec(
            manifest=manifest,
            source=str(published.sources[manifest.version]),
            immutable=not published.plain,
            protected=protected,
            local_store=str(self._settings.local_store),
            store_budget_bytes=self._settings.store_budget_bytes,
            precision=self._settings.precision,
            lanes=1 if is_long_running(manifest.task) else self._lanes,
            recheck_s=self._settings.recheck_s,
            trusted_signers=None if signers is None else str(signers),
        )

    def is_loaded(self, order: LeaderSpec) -> bool:
        """Whether an earlier web process left what `order` asks for: then it takes no more memory."""
        return order.key() in self._fork_server.waiting()

    def start(self, order: LeaderSpec) -> ProcessGroup:
        """A group that loads what `order` asks for, or has it loaded; what comes of it arrives as events. Raises
        OSError."""
        manifest, key = order.manifest, order.key()
        if self.is_loaded(order):
            self._adopted.add(key)
        return ProcessGroup(
            self._fork_server.spawn(key),
            order,
            on_event=lambda group, event: self._receive(group, event, order),
            on_lane=self._on_lanes,
            name=f"{manifest.model}@{manifest.version}",
            long_running=is_long_running(manifest.task),
            interruptible=is_interruptible(manifest.task),
        )

    def _receive(self, group: ProcessGroup, event: Mapping[str, Any], order: LeaderSpec) -> None:
        """On the group's reader thread: do what takes a while here, and pass the event on with what was found."""
        found: dict[str, Any] = {}
        if "folder" in event:
            why_elsewhere = event["encoded_elsewhere"]
            limits = Limits(self._settings.max_text_chars, group.encoder if why_elsewhere else None)
            try:
                found["web"] = open_web(Path(event["folder"]), order.manifest, limits)
            except BaseException as error:  # a panic of a native library is no Exception
                found["unusable"] = str(error) or type(error).__name__
        elif event["event"] == "ready":
            found["memory_bytes"] = memory.proportional_bytes(group.pids())
        self._on_event(group, {**event, **found})
        if event["event"] in ("ready", "gone"):
            self._adopted.discard(order.key())
            self._look_settled()
