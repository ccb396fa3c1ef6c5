"""Is there room for another version? What its load takes at its peak, against what is free. Manager's thread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from model_api.instance import memory
from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase
from model_api.instance.version import Version
from model_api.local_store.local_store import LocalStore
from model_api.repository.manifest import Manifest
from model_api.settings import Settings
from model_api.tasks import loading_bytes


@dataclass(frozen=True)
class Room:
    """What a load needs and what is free for it, in bytes; `free_bytes` is None where that can't be told."""

    peak_bytes: int
    free_bytes: int | None

    @property
    def lacking_bytes(self) -> int:
        return 0 if self.free_bytes is None else max(0, self.peak_bytes - self.free_bytes)

    def reason(self) -> str:
        free = max(0, self.free_bytes or 0)
        return f"not enough memory: loading peaks at {self.peak_bytes / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"


class Admission:
    """Judges with the settings' limits; holds nothing of what is loaded."""

    def __init__(self, settings: Settings) -> None:
        self._store = LocalStore(settings.local_store)
        self._precision = settings.precision
        self._budget_bytes = settings.memory_budget_bytes

    def room_for(self, manifest: Manifest, versions: Sequence[Version], leaving: Sequence[Version]) -> Room:
        """`versions` are all on this instance, `leaving` those that are being unloaded."""
        promised = sum(self._peak_bytes(v.manifest) for v in versions if v.phase == Phase.LOADING and v.group)
        available = memory.available_bytes()
        free = [] if available is None else [available]
        if self._budget_bytes is not None:
            free.append(self._budget_bytes - sum(v.memory_bytes for v in [*versions, *leaving]))
        return Room(self._peak_bytes(manifest), min(free) - promised if free else None)

    def _peak_bytes(self, manifest: Manifest) -> int:
        return loading_bytes(self._store.folder(manifest.digest), manifest, self._precision)


def protected_digests(models: Iterable[ManagedModel], leaving: Iterable[Version]) -> tuple[str, ...]:
    """Copies in the local store that must not make room for others: what is loaded, and what stands in for stable."""
    digests = {version.manifest.digest for version in leaving}
    for model in models:
        digests |= {version.manifest.digest for version in model.versions.values()}
        digests |= {ref.digest for ref in model.refs.stand_ins()}
    return tuple(sorted(digests))


def taken_out_for(
    version: Version, model: ManagedModel, models: Iterable[ManagedModel], room: Room
) -> Sequence[Version]:
    """What is unloaded to make room for `version` of `model`, taken out of its model here: what only pinned callers ask
    for; else what gives way in its own model."""
    leaving = [one for other in models for one in other.release_pinned()]
    if not leaving:
        serving = model.give_way(version, room.lacking_bytes)
        leaving = [] if serving is None else [serving]
    for one in leaving:
        one.log("version unloaded first", reason=room.reason())
    return leaving
