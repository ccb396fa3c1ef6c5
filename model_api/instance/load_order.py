"""Which versions load now: a few at a time, the most wanted first."""

import math
import time
from collections.abc import Collection, Mapping, Sequence

from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase
from model_api.instance.version import Version

# A load that gave no sign of life for so long (its source hangs, it is very large) keeps the others waiting no longer.
PATIENCE_S = 60.0


class LoadOrder:
    """Decides only; holds nothing of what is loaded. Manager's thread."""

    def __init__(self, at_a_time: int, names: Sequence[str] | None, sim_model: str | None) -> None:
        """`names` are the models that were promised, in their order; `sim_model` answers /sim."""
        self._at_a_time = at_a_time
        self._rank = {name: rank for rank, name in enumerate(names or ())}
        self._sim_model = sim_model

    def next(self, models: Collection[ManagedModel], asked_at: Mapping[str, float]) -> Version | None:
        """The version to load now; None while enough are loading, or none waits.

        First come models of which nothing answers yet; among those the order of MODEL_API_MODELS counts, then /sim's,
        then for which a caller asked last (`asked_at`, by name), then the name.
        """
        now = time.monotonic()
        versions = [version for model in models for version in model.versions.values()]
        busy = sum(v.phase == Phase.LOADING and now - v.moved_at < PATIENCE_S for v in versions)
        if busy >= self._at_a_time:
            return None
        answered = {model.name for model in models if model.serving is not None}

        def unwantedness(version: Version) -> tuple[bool, float, bool, float, str]:
            name = version.name
            rank = self._rank.get(name, math.inf)
            return (name in answered, rank, name != self._sim_model, -asked_at.get(name, 0.0), name)

        return min((version for version in versions if version.queued), key=unwantedness, default=None)
