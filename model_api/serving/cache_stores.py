"""Where cached answers lie: in this process, or in a Redis that all instances share.

A store knows bytes under string keys; what they mean is cache.py's matter. Every key begins with `<model>/`, which is
all that `clear` needs to know of it.
"""

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

Count = Callable[
    [str], None
]  # told of "eviction", "expiry", "too_large", "store_error" (circuit opens), "store_skipped"
CLOSED = -1.0  # a circuit's time of opening again, when it isn't open
MAX_WAITING = 256  # calls of a remote store that are running or queued
CLEAR_TIMEOUT_S = 30.0
MAX_VALUE_BYTES = 16 * 2**20  # in a shared store
KEY_OVERHEAD_BYTES = 200  # what a memory entry takes beside its key and value, roughly
T = TypeVar("T")


class StoreDown(Exception):
    """The store didn't do it, or not in time. Never leaves the cache."""


class CacheStore(Protocol):
    """Any thread. All but `close` may raise StoreDown."""

    def get(self, key: str) -> bytes | None:
        """The value, or None if there is none, it expired or was evicted."""

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep `value` (not empty) for at most `ttl_s`, or drop it if it is too large."""

    def clear(self, prefix: str) -> int:
        """Remove every key that begins with `prefix` ("" for all of this project's); how many there were."""

    def close(self) -> None:
        """Let go of memory, connections and threads."""


class MemoryStore:
    """In this process: least recently used out first, at most `max_bytes` of keys, values and their overhead."""

    def __init__(self, max_bytes: int, count: Count, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # value, and when it expires
        self._n_bytes = 0

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def get(self, key: str) -> bytes | None:
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            if self._clock() >= found[1]:
                self._remove(key)
                self._count("expiry")
                return None
            self._entries.move_to_end(key)
            return found[0]

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        with self._lock:
            if key in self._entries:
                self._remove(key)
            if self._size(key, value) > self._max_bytes:
                self._count("too_large")
                return
            self._entries[key] = (value, self._clock() + ttl_s)
            self._n_bytes += self._size(key, value)
            while self._n_bytes > self._max_bytes:
                self._remove(next(iter(self._entries)))
                self._count("eviction")

    def clear(self, prefix: str) -> int:
        with self._lock:
            keys = [key for key in self._entries if key.startswith(prefix)]
            for key in keys:
                self._remove(key)
            return len(keys)

    def close(self) -> None:
        self.clear("")

    def _remove(self, key: str) -> None:
        self._n_bytes -= self._size(key, self._entries.pop(key)[0])

    @staticmethod
    def _size(key: str, value: bytes) -> int:
        return len(key) + len(value) + KEY_OVERHEAD_BYTES


class RedisStore:
    """In a Redis or Valkey, shared by all instances. Its bytes bound and eviction are the server's own (`maxmemory`,
    `allkeys-lru`). Raises StoreDown, after seconds if need be: see PatientStore."""

    NAMESPACE = "model_api:"
    _SPECIAL = re.compile(r"([\\*?\[\]^])")

    def __init__(self, url: str, timeout_s: float) -> None:
        self._client: Any = redis.Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),  # the circuit decides when to try again
        )

    def get(self, key: str) -> bytes | None:
        """Of a value that is longer than any of ours, no more is read than shows that."""
        try:
            return bytes(self._client.getrange(self.NAMESPACE + key, 0, MAX_VALUE_BYTES)) or None
        except redis.ResponseError as error:
            if str(error).startswith("WRONGTYPE"):  # somebody else's: says nothing about the server, and `put` mends it
                return None
            raise StoreDown(type(error).__name__) from error
        except (redis.RedisError, OSError) as error:
            raise StoreDown(type(error).__name__) from error

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        if len(value) > MAX_VALUE_BYTES:
            return
        try:
            self._client.set(self.NAMESPACE + key, value, px=max(1, round(ttl_s * 1000)))
        except (redis.RedisError, OSError) as error:
            raise StoreDown(type(error).__name__) from error

    def clear(self, prefix: str) -> int:
        pattern = self._SPECIAL.sub(r"\\\1", self.NAMESPACE + prefix) + "*"
        n_removed = 0
        try:
            batch: list[bytes] = []
            for key in self._client.scan_iter(match=pattern, count=1000):
                batch.append(key)
                if len(batch) == 1000:
                    n_removed += int(self._client.unlink(*batch))
                    batch = []
            if batch:
                n_removed += int(self._client.unlink(*batch))
        except (redis.RedisError, OSError) as error:
            raise StoreDown(type(error).__name__) from error
        return n_removed

    def close(self) -> None:
        self._client.close()


class PatientStore:
    """A remote store behind a deadline and a circuit: a request waits for it at most `deadline_s`, and after a failure
    nobody waits at all for `open_s` seconds; then one call tries again.

    Socket time-outs alone don't bound a call (resolving a name, a server that trickles), so calls run on threads of
    their own. Writes aren't waited for; what comes while MAX_WAITING calls wait is dropped.
    """

    def __init__(
        self,
        store: CacheStore,
        count: Count,
        deadline_s: float,
        open_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._count = count
        self._deadline_s = deadline_s
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open_to = CLOSED
        self._n_waiting = 0
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="cache")

    def get(self, key: str) -> bytes | None:
        self._admit()
        return self._in_time(self._submit(self._deadline_s, self._store.get, key), self._deadline_s)

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._admit()
        self._in_time(self._submit(self._deadline_s, self._store.put, key, value, ttl_s), self._deadline_s)

    def clear(self, prefix: str) -> int:
        """An operator's command, so it waits longer, and tries whatever the circuit says."""
        return self._in_time(self._submit(CLEAR_TIMEOUT_S, self._store.clear, prefix), CLEAR_TIMEOUT_S)

    def close(self) -> None:
        self._threads.shutdown(wait=True)
        self._store.close()

    def _admit(self) -> None:
        """Raise StoreDown while the circuit is open. Past its time it lets one caller through and sees what comes."""
        with self._lock:
            now = self._clock()
            half_open = 0 <= self._open_to <= now
            if (self._open_to >= 0 and not half_open) or self._n_waiting >= MAX_WAITING:
                self._count("store_skipped")
                raise StoreDown("circuit is open")
            if half_open:
                self._open_to = now + self._open_s

    def _submit(self, limit_s: float, call: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Start `call` on a thread of the pool; a call that succeeds after `limit_s` is a failure for the circuit."""

        def run() -> T:
            began = self._clock()
            try:
                value = call(*arguments)
            except StoreDown:
                self._record(worked=False)
                raise
            finally:
                with self._lock:
                    self._n_waiting -= 1
            self._record(worked=self._clock() - began <= limit_s)
            return value

        with self._lock:
            self._n_waiting += 1
        return self._threads.submit(run)

    def _in_time(self, future: "Future[T]", timeout_s: float) -> T:
        try:
            return future.result(timeout_s)
        except FutureTimeout as error:
            self._record(worked=False)
            raise StoreDown("no answer in time") from error

    def _record(self, *, worked: bool) -> None:
        with self._lock:
            if not worked and self._open_to < 0:
                self._count("store_error")
            self._open_to = CLOSED if worked else self._clock() + self._open_s


def open_store(where: str, *, max_bytes: int, deadline_s: float, count: Count) -> CacheStore:
    """The store that MODEL_API_CACHE names: "memory", or a Redis's or Valkey's URL. Connects to nothing yet."""
    if where == "memory":
        return MemoryStore(max_bytes, count)
    url = where.replace("valkey", "redis", 1) if where.startswith("valkey") else where
    return PatientStore(RedisStore(url, timeout_s=max(1.0, deadline_s)), count, deadline_s)
