"""How long a run measures, and how often."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Durations in seconds.

    Mixed bodies at 32 connections take seconds each, and what isn't complete at the end of a load counts for nothing:
    the load lasts for several times that.
    """

    rounds: int = 3
    warm_up_s: float = 3.0
    short_s: float = 6.0
    mixed_s: float = 12.0
    mixed_crowded_s: float = 45.0
    crowd_s: float = 20.0
    loop_s: float = 5.0
    connections: tuple[int, ...] = (1, 8, 32)

    def load_s(self, kind: str, connections: int) -> float:
        if kind == "short":
            return self.short_s
        return self.mixed_crowded_s if connections >= 32 else self.mixed_s


QUICK = Options(
    rounds=1,
    warm_up_s=1.0,
    short_s=2.0,
    mixed_s=6.0,
    mixed_crowded_s=10.0,
    crowd_s=4.0,
    loop_s=1.0,
    connections=(1, 32),
)
