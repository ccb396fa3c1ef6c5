"""Starting a version's process group, and what the web process must have beside it. Manager's thread, but for what
the groups' reader threads do."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.instance import memory
from model_api.instance.version import Version
from model_api.processes.fork_server import ForkServer
from model_api.processes.group import ProcessGroup
from model_api.processes.spec import LeaderSpec
from model_api.repository.manifest import Manifest
from model_api.repository.published import Published
from model_api.settings import Settings
from model_api.tasks import is_long_running, open_web
from model_api.tasks.contract import Limits

OnEvent = Callable[[ProcessGroup, Mapping[str, Any]], None]


class GroupStarter:
    """Owner of the fork server."""

    def __init__(self, settings: Settings, lanes: int, on_event: OnEvent, on_lanes: Callable[[], None]) -> None:
        """`on_event` and `on_lanes` are called on the groups' reader threads; see ProcessGroup."""
        self._settings = settings
        self._lanes = lanes
        self._on_event = on_event
        self._on_lanes = on_lanes
        self._fork_server = ForkServer()

    def begin(self) -> None:
        """Start the fork server. On the thread that calls everything else here."""
        self._fork_server.start()

    def stop(self) -> None:
        self._fork_server.stop()

    def replace_fork_server(self) -> None:
        """It doesn't answer: the next groups come from another one."""
        self._fork_server.replace()

    def start(self, version: Version, published: Published, protected: tuple[str, ...]) -> ProcessGroup:
        """A new group that loads `version`; what comes of it arrives as events. Raises OSError."""
        manifest = version.manifest
        signers = self._settings.trusted_signers
        long_running = is_long_running(manifest.task)
        spec = LeaderSpec(
            manifest=manifest,
            source=str(published.sources[manifest.version]),
            immutable=not published.plain,
            protected=protected,
            local_store=str(self._settings.local_store),
            store_budget_bytes=self._settings.store_budget_bytes,
            precision=self._settings.precision,
            lanes=1 if long_running else self._lanes,
            recheck_s=self._settings.recheck_s,
            trusted_signers=None if signers is None else str(signers),
        )
        return ProcessGroup(
            self._fork_server.spawn(),
            spec,
            on_event=lambda group, event: self._receive(group, event, manifest),
            on_lane=self._on_lanes,
            name=f"{version.name}@{manifest.version}",
            long_running=long_running,
        )

    def _receive(self, group: ProcessGroup, event: Mapping[str, Any], manifest: Manifest) -> None:
        """On the group's reader thread: do what takes a while here, and pass the event on with what was found."""
        found: dict[str, Any] = {}
        if event.get("stage") == "loading":
            why_elsewhere = event["encoded_elsewhere"]
            limits = Limits(self._settings.max_text_chars, group.encoder if why_elsewhere else None)
            try:
                found["web"] = open_web(Path(event["folder"]), manifest, limits)
            except BaseException as error:  # a panic of a native library is no Exception
                found["unusable"] = str(error) or type(error).__name__
        elif event["event"] == "ready":
            found["memory_bytes"] = memory.proportional_bytes(group.pids())
        self._on_event(group, {**event, **found})
