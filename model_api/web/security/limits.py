"""How much a key may ask: requests and tokens, for each model by itself, counted in a sliding window.

Counted in the Redis that the result cache is in, for all instances together; else, and while that can't be reached, in
memory, for this instance alone. A request counts when it is admitted. Tokens count when they are known, after the
answer: a request that takes more than is left takes all that is left.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItemPerSecond
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import SlidingWindowCounterRateLimiter

from model_api.errors import TooManyRequests
from model_api.repository.keys import Rate

log = logging.getLogger(__name__)

AWAY_S = 5.0  # after a failure the store is left alone for so long
PREFIX = "model_api_limits"
_SCHEMES = {"valkey://": "redis://", "valkeys://": "rediss://", "unix://": "redis+unix://"}  # as `limits` calls them
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Left:
    """What is left of one rate, and in how many seconds there will be more."""

    rate: Rate
    remaining: int
    reset_s: float


class Limiter:
    """Any thread. A request without rates costs nothing here."""

    def __init__(self, store: str, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`store` is MODEL_API_CACHE's value; `timeout_s` is what a request waits for it. Connects to nothing yet."""
        self._shared: SlidingWindowCounterRateLimiter | None = None
        self._clock = clock
        self._away_until = 0.0
        self._own: SlidingWindowCounterRateLimiter | None = None
        self._lock = threading.Lock()
        if store not in ("off", "memory"):
            scheme = next((name for name in _SCHEMES if store.startswith(name)), "")
            options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
            url = _SCHEMES.get(scheme, "") + store.removeprefix(scheme)
            storage = storage_from_string(url, key_prefix=PREFIX, wrap_exceptions=True, **options)
            self._shared = SlidingWindowCounterRateLimiter(storage)

    def admit(self, caller: str, model: str, rates: Sequence[Rate]) -> list[Left]:
        """Count a request. Raises TooManyRequests, and then nothing is counted that was used up already."""
        return self._do(lambda limiter: _admit(limiter, caller, model, rates))

    def spend(self, caller: str, model: str, rates: Sequence[Rate], n_tokens: int) -> list[Left]:
        """Count tokens."""
        return self._do(lambda limiter: _spend(limiter, caller, model, rates, n_tokens))

    def _do(self, work: Callable[[SlidingWindowCounterRateLimiter], list[Left]]) -> list[Left]:
        if self._shared is not None and self._clock() >= self._away_until:
            try:
                return work(self._shared)
            except StorageError as error:
                self._away_until = self._clock() + AWAY_S
                reason = type(error.storage_error).__name__
                log.warning("limits are counted on this instance alone", extra={"fields": {"reason": reason}})
        return work(self._local())

    def _local(self) -> SlidingWindowCounterRateLimiter:
        with self._lock:
            if self._own is None:  # its storage has a thread
                if self._shared is None:
                    log.info("limits are counted on this instance alone: there is no shared cache")
                self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
            return self._own


def headers(left: Sequence[Left]) -> Headers:
    """What tells a caller how it stands: of the rate of which least is left, and all rates as a policy."""
    if not left:
        return ()
    least = min(left, key=lambda one: one.remaining / one.rate.amount)
    policy = ", ".join(f'{one.rate.amount};w={one.rate.per_s};unit="{one.rate.unit}"' for one in left)
    return (
        ("RateLimit-Limit", str(least.rate.amount)),
        ("RateLimit-Remaining", str(least.remaining)),
        ("RateLimit-Reset", str(math.ceil(least.reset_s))),
        ("RateLimit-Policy", policy),
    )


def _admit(limiter: SlidingWindowCounterRateLimiter, caller: str, model: str, rates: Sequence[Rate]) -> list[Left]:
    for rate in sorted(rates, key=lambda one: one.unit, reverse=True):  # tokens first: they are only looked at
        item, names = _item(rate), (caller, model, rate.unit)
        counted = rate.unit == "requests"
        if not (limiter.hit(item, *names) if counted else limiter.test(item, *names)):
            left = _left(limiter, caller, model, rates)
            wait_s = max(1, math.ceil(next(one.reset_s for one in left if one.rate == rate)))
            raise TooManyRequests(f"{caller} may have {rate} of {model or 'this'}", wait_s, headers(left))
    return _left(limiter, caller, model, rates)


def _spend(
    limiter: SlidingWindowCounterRateLimiter, caller: str, model: str, rates: Sequence[Rate], n_tokens: int
) -> list[Left]:
    for rate in rates:
        if rate.unit == "tokens" and n_tokens:
            item, names = _item(rate), (caller, model, rate.unit)
            cost = min(n_tokens, rate.amount)
            while cost and not limiter.hit(item, *names, cost=cost):
                cost = min(cost - 1, limiter.get_window_stats(item, *names).remaining)
    return _left(limiter, caller, model, rates)


def _left(limiter: SlidingWindowCounterRateLimiter, caller: str, model: str, rates: Sequence[Rate]) -> list[Left]:
    found = []
    for rate in rates:
        stats = limiter.get_window_stats(_item(rate), caller, model, rate.unit)
        found.append(Left(rate, stats.remaining, min(float(rate.per_s), max(0.0, stats.reset_time - time.time()))))
    return found


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.amount, rate.per_s)
