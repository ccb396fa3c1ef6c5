"""The result cache: an answer is computed once, until something that changes it changes.

The key is everything that the answer depends on; what is cached is the predictions' JSON itself, so that a cached
answer equals the computed one to the byte. Identical requests in flight are computed once.

When the computing request fails, the ones that joined it get the same error, with one exception: an error that is the
computing request's own lot (its deadline, its caller leaving) makes the next one compute.
"""

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from model_api.errors import CallerLeft, DeadlineExceeded
from model_api.serving.cache_stores import CacheStore, Count, StoreDown
from model_api.serving.turnstile import leave_early

ENGINE_VERSION = "1"  # raised when a release computes other numbers from the same weights
_MAGIC = b"mc2"
_SEAL_BYTES = 32
_CLOCKS_DIFFER_S = 60.0  # between the instances of a fleet, at most


def cache_key(
    *, model: str, digest: str, precision: str, task: str, parameters: Mapping[str, Any], inputs: Sequence[Any]
) -> str:
    """`<model>/<hash>` over everything that changes the answer. Any thread.

    Parameters count as given: leaving one out and giving its default are two keys, which costs a computation and
    never an answer. The model's name is in it for DELETE /cache.
    """
    canonical = orjson.dumps(
        [ENGINE_VERSION, digest, precision, task, parameters, inputs],
        option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY,
    )
    return f"{model}/{hashlib.blake2b(canonical, digest_size=24).hexdigest()}"


@dataclass(frozen=True)
class CachedAnswer:
    """What one request's answer is made of; `lines` are the predictions, each as its JSON."""

    lines: tuple[bytes, ...]
    n_tokens: int
    truncated: tuple[int, ...]
    computed_unix_s: float

    @classmethod
    def of(cls, predictions: Sequence[Any], n_tokens: int, truncated: Sequence[int]) -> "CachedAnswer":
        lines = tuple(orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY) for prediction in predictions)
        return cls(lines, n_tokens, tuple(truncated), time.time())

    @property
    def fragments(self) -> list[Any]:
        """The predictions for a response that orjson renders: each goes in as it is."""
        return [orjson.Fragment(line) for line in self.lines]

    def to_bytes(self, key: str, secret: bytes) -> bytes:
        """What a store keeps: a seal over key and content, a header line, a line per prediction."""
        header = orjson.dumps([self.n_tokens, self.truncated, self.computed_unix_s])
        body = b"\n".join((header, *self.lines))
        return _MAGIC + _seal(key, body, secret) + body

    @classmethod
    def from_bytes(cls, key: str, value: bytes, secret: bytes) -> "CachedAnswer":
        """Raises ValueError for anything but what `to_bytes` made for this key with this secret. A store may be
        written by others: nothing is parsed before its seal is found right, and then it is still checked."""
        head = len(_MAGIC) + _SEAL_BYTES
        body = value[head:]
        if not hmac.compare_digest(value[:head], _MAGIC + _seal(key, body, secret)):
            raise ValueError("seal")
        header, *lines = body.split(b"\n")
        n_tokens, truncated, computed_unix_s = orjson.loads(header)
        for line in lines:
            orjson.loads(line)
        if not _is_count(n_tokens) or not isinstance(truncated, list) or not all(map(_is_count, truncated)):
            raise ValueError("counts")
        if not isinstance(computed_unix_s, float):
            raise ValueError("time")
        return cls(tuple(lines), n_tokens, tuple(truncated), computed_unix_s)


def _seal(key: str, body: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, len(key.encode()).to_bytes(4, "big") + key.encode() + body, "sha256")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


Found = tuple[CachedAnswer, float | None]  # an answer, and its age in seconds if it was cached


@dataclass
class _Flight:
    """One look-up or computation that others may join. `entry` or `error` is set before `landed`."""

    landed: threading.Event = field(default_factory=threading.Event)
    entry: CachedAnswer | None = None
    age_s: float | None = None  # of an entry that was cached
    error: BaseException | None = None


class Cache:
    """Looks up, joins or computes. Any thread; `fetch` blocks."""

    def __init__(self, store: CacheStore, ttl_s: float, count: Count, secret: bytes | None = None) -> None:
        """`secret` is the fleet's, for a store that all of it shares; None: what this process writes it alone reads."""
        self._store = store
        self._secret = secrets.token_bytes(32) if secret is None else secret
        self._ttl_s = ttl_s
        self._count = count
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight] = {}

    def fetch(self, key: str, compute: Callable[[], CachedAnswer], deadline: float) -> Found:
        """The entry, and its age in seconds if it was cached (None: computed now, here or by a request joined).

        `deadline` (time.monotonic) bounds the wait for a joined request; past it DeadlineExceeded. Counts exactly one
        of hit, miss and joined.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight()
            if leads:
                return self._lead(key, flight, compute)
            leave_early()
            if not flight.landed.wait(deadline - time.monotonic()):
                raise DeadlineExceeded("no answer within the request's time limit")
            if isinstance(flight.error, (DeadlineExceeded, CallerLeft)):
                continue
            self._count("joined" if flight.age_s is None else "hit")
            if flight.error is not None:
                raise flight.error
            assert flight.entry is not None
            return flight.entry, flight.age_s

    def refresh(self, key: str, compute: Callable[[], CachedAnswer]) -> CachedAnswer:
        """Compute without looking or joining (Cache-Control: no-cache), and keep the new entry."""
        self._count("bypass")
        entry = compute()
        self._keep(key, entry)
        return entry

    def clear(self, model: str | None) -> int:
        """Forget all answers of `model`, or of all models; how many. Raises StoreDown."""
        return self._store.clear("" if model is None else f"{model}/")

    def close(self) -> None:
        self._store.close()

    def _lead(self, key: str, flight: _Flight, compute: Callable[[], CachedAnswer]) -> Found:
        """Look up, else compute and keep, with `flight` announced all the while: who comes later finds it or the
        kept entry, so nothing is computed twice."""
        try:
            entry = self._look_up(key)
            if entry is not None:
                self._count("hit")
                flight.age_s = max(0.0, time.time() - entry.computed_unix_s)
            else:
                self._count("miss")
                entry = compute()
                self._keep(key, entry)
            flight.entry = entry
            return entry, flight.age_s
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()

    def _look_up(self, key: str) -> CachedAnswer | None:
        try:
            value = self._store.get(key)
        except StoreDown:
            return None
        if value is None:
            return None
        try:
            entry = CachedAnswer.from_bytes(key, value, self._secret)
        except (ValueError, TypeError):
            self._count("garbage")
            return None
        # The store's own expiry can be undone by who writes to it; the time in the entry can't.
        age_s = time.time() - entry.computed_unix_s
        return entry if -_CLOCKS_DIFFER_S <= age_s <= self._ttl_s + _CLOCKS_DIFFER_S else None

    def _keep(self, key: str, entry: CachedAnswer) -> None:
        try:
            self._store.put(key, entry.to_bytes(key, self._secret), self._ttl_s)
        except StoreDown:
            return
