"""What request threads are shown of this instance: replaced as a whole, so that nobody waits for the manager."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from model_api.instance.managed_model import ManagedModel, describe_all
from model_api.instance.readiness import ReadinessLatch
from model_api.instance.serving_table import ServingTable
from model_api.instance.version import Version

OLDEST_S = 0.05


class Shown:
    """Replaced on the manager's thread; `described` and `verdicts` may be read on any."""

    def __init__(self, readiness: ReadinessLatch, on_loaded: Callable[[Iterable[Sequence[str]]], None]) -> None:
        """`on_loaded` gets the rows (model, version, state) of what is loaded."""
        self._readiness = readiness
        self._on_loaded = on_loaded
        self._replaced_at = 0.0
        self.serving = ServingTable()
        self.described: list[dict[str, Any]] = []  # every model as GET /models/<name> shows it
        self.verdicts = readiness.verdicts({})  # model name to what is the matter with it, for /readyz

    def is_old(self) -> bool:
        """To replace it takes as long as there are models: not worth it after each of many events at once."""
        return time.monotonic() - self._replaced_at > OLDEST_S

    def replace(
        self,
        models: Mapping[str, ManagedModel],
        leaving: Sequence[Version],
        *,
        observed: bool,
        sim_choice: str | None,
        oddities: Mapping[str, str],
    ) -> None:
        """`oddities` lie where models lie and are none; each has its reason."""
        self.described = describe_all(models, oddities)
        self.verdicts = self._readiness.verdicts(models)
        rows = {name: model.answering() for name, model in models.items()}
        self.serving.replace(rows, complete=observed, sim_choice=sim_choice)
        versions = [version for model in models.values() for version in model.versions.values()]
        loaded = [(v.name, v.manifest.version, str(v.phase)) for v in versions]
        self._on_loaded(loaded + [(v.name, v.manifest.version, "draining") for v in leaving])
        self._replaced_at = time.monotonic()
