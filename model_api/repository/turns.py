"""How often what is looked at: often while something happens, seldom when all is quiet.

The store's generation tells of every command within a poll; the turns here are for what no command announces (plain
copies, a restored backup, commands of an earlier release), and each read is billed. docs/deploy.md has the sums.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

from dataclasses import dataclass

QUIET_AFTER_S = 600.0


@dataclass(frozen=True)
class Turns:
    """Seconds between two looks; all from the poll's."""

    generation_s: float
    unsettled_s: float  # a folder that is being copied, or about which something is wrong
    listing_s: float  # models/, for what is new
    plain_s: float  # a plain copy that serves
    published_s: float  # a published model that nobody announced

    @classmethod
    def of(cls, poll_s: float, *, quiet: bool) -> Turns:
        if quiet:
            return cls(5 * poll_s, 15 * poll_s, 30 * poll_s, 30 * poll_s, 450 * poll_s)
        return cls(poll_s, 2 * poll_s, 5 * poll_s, 5 * poll_s, 15 * poll_s)
