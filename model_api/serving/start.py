"""Starting a service: the manager, the queue and the cache that the settings ask for. Knows nothing of HTTP."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from model_api.compute.processor import available_cores
from model_api.history.recording import Recorder
from model_api.instance.manager import Manager
from model_api.serving.batching import Batcher
from model_api.serving.cache import Cache
from model_api.serving.cache_stores import open_store
from model_api.serving.recorded import RecordedService
from model_api.serving.scheduling import Scheduler
from model_api.serving.scorer import Scorer
from model_api.serving.service import Service
from model_api.settings import Settings

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Who counts. Called on the service's threads; must not block."""

    def observe_batch(self, rows: int, tokens: int) -> None:
        """A lane ran a micro-batch."""

    def count_cache(self, event: str) -> None:
        """The result cache did something, in cache.py's and cache_stores.py's words."""

    def show_loaded(self, rows: Iterable[Sequence[str]]) -> None:
        """(model, version, state) of all that is loaded."""

    def watch_queue(self, entries: Callable[[], float]) -> None:
        """Called once, with what tells how many requests wait or run."""


class Unobserved:
    """Nobody counts."""

    def observe_batch(self, rows: int, tokens: int) -> None: ...
    def count_cache(self, event: str) -> None: ...
    def show_loaded(self, rows: Iterable[Sequence[str]]) -> None: ...
    def watch_queue(self, entries: Callable[[], float]) -> None: ...


def start_service(settings: Settings, observer: Observer, recorder: Recorder | None = None) -> Service:
    """A running service; models load in the background. `stop` it to end the model processes. What it answers is noted
    by `recorder`, where there is one."""
    lanes = settings.lanes or available_cores()
    scheduler = Scheduler(
        max_entries=settings.max_queue_entries, max_batch_tokens=settings.max_batch_tokens, lanes=lanes
    )
    batcher = Batcher(scheduler, runners=lanes, on_batch=observer.observe_batch)
    observer.watch_queue(batcher.queue_entries)
    manager = Manager(
        settings,
        lanes=lanes,
        on_lanes=batcher.lanes_changed,
        on_group_gone=batcher.fail_group,
        on_loaded=observer.show_loaded,
    )
    manager.start()
    parts = (settings, manager, batcher, Scorer(batcher.lanes_changed), open_cache(settings, observer))
    if recorder is None:
        return Service(*parts)
    service = RecordedService(*parts)
    service.recorder = recorder
    return service


def open_cache(settings: Settings, observer: Observer) -> Cache | None:
    """The result cache that the settings ask for; None where it is off. Connects to nothing yet."""
    if settings.cache == "off":
        return None
    where, secret = settings.cache, settings.cache_secret
    remote = where != "memory"
    if remote and secret is None and not settings.cache_trusted:
        log.warning("the shared cache isn't used: MODEL_API_CACHE_SECRET is not set (see docs/security.md)")
        where, remote = "memory", False
    store = open_store(
        where,
        max_bytes=settings.cache_bytes,
        deadline_s=settings.cache_timeout_s,
        count=observer.count_cache,
    )
    shared = (secret or "").encode() if remote else None
    return Cache(store, settings.cache_ttl_s, observer.count_cache, shared)
