"""May the balancer send requests? Latched: once every model had its verdict and, where models are named, one of them
serves, ready until the process ends."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import has_verdict
from model_api.instance.serving_table import nearest

log = logging.getLogger(__name__)

RECALL_PATIENCE_S = 5.0  # a start waits so long for the repository before it serves what it remembers


@dataclass(frozen=True)
class Readiness:
    """Whether this instance should get traffic; `models` maps a name to its verdict in words."""

    ready: bool
    models: Mapping[str, str]
    draining: bool


class ReadinessLatch:
    """Updated on the manager's thread; `ready` may be read on any."""

    def __init__(self, names: tuple[str, ...] | None) -> None:
        """`names`: the models that were promised, None for all that are seen."""
        self._names = names
        self._started_at = time.monotonic()
        self.ready = False
        self._told_absent = False

    def patient_until(self) -> float:
        """When what an earlier process saw may be served alone, in time.monotonic() seconds."""
        return self._started_at + RECALL_PATIENCE_S

    def _promised(self, models: Mapping[str, ManagedModel]) -> tuple[str, ...]:
        return self._names or tuple(models)

    def update(self, models: Mapping[str, ManagedModel], *, observed: bool) -> None:
        """`observed`: the repository has been looked at as a whole."""
        # What an earlier process saw is served at once, but may be old: a moment's patience for the repository.
        patient = time.monotonic() < self.patient_until()
        if self.ready or not (observed or (models and not patient)):
            return
        names = self._promised(models)
        absent = {name: _absent(name, models) for name in names if name not in models}
        if absent and observed and not self._told_absent:
            self._told_absent = True
            log.warning("models that MODEL_API_MODELS names are awaited", extra={"fields": {"models": absent}})
        decided = all(name in models and _has_verdict(models[name]) for name in names)
        # Where models are named, one of them must serve: what serves nothing of it must get no traffic. Where none is
        # named nothing was promised, and a model that can't be had holds up no other that may come.
        if decided and (self._names is None or any(models[name].serving for name in names)):
            self.ready = True
            log.info("instance ready", extra={"fields": {"models": self.verdicts(models)}})

    def verdicts(self, models: Mapping[str, ManagedModel]) -> dict[str, str]:
        """Model name to what is the matter with it."""
        names = self._promised(models)
        return {name: models[name].state() if name in models else _absent(name, models) for name in names}


def _absent(name: str, models: Mapping[str, ManagedModel]) -> str:
    near = nearest(name, models)
    return f"not published; did you mean {near!r}?" if near else "not published"


def _has_verdict(model: ManagedModel) -> bool:
    serving = model.serving.ref if model.serving else None
    return has_verdict(model.refs, model.phases(), serving, model.attempts())
