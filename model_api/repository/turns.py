"""How often what is looked at: often while something happens, seldom when all is quiet.

The store's generation tells of every command within a poll; the turns here are for what no command announces (plain
copies, a restored backup, commands of an earlier release), and each read is billed. docs/deploy.md has the sums.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

from dataclasses import dataclass

QUIET_AFTER_S = 300.0  # without any change


@dataclass(frozen=True)
class Turns:
    """Seconds between two looks, or two signs of life; all from the poll's."""

    generation_s: float
    unsettled_s: float  # a folder that is being copied, or about which something is wrong
    listing_s: float  # models/, for what is new
    plain_s: float  # a plain copy that serves
    published_s: float  # a published model that nobody announced
    heartbeat_s: float  # between two signs of life in the status folder

    @classmethod
    def of(cls, poll_s: float, *, quiet: bool) -> Turns:
        polls = (10, 30, 120, 120, 3600, 60) if quiet else (1, 2, 5, 5, 30, 2)
        return cls(*(n * poll_s for n in polls))
