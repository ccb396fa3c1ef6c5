import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from model_api.serving.cache_stores import (
    KEY_OVERHEAD_BYTES,
    MemoryStore,
    PatientStore,
    RedisStore,
    StoreDown,
    open_store,
)
from tests.rigs.clock import Clock
from tests.rigs.redis_server import free_port, redis_server


def test_memory_is_bounded_and_forgets_the_least_recently_used() -> None:
    counts: Counter[str] = Counter()
    store = MemoryStore(3 * (KEY_OVERHEAD_BYTES + 11), lambda event: counts.update([event]))
    for key in "abc":
        store.put(key, b"0123456789", 60)
    assert store.get("a") is not None
    store.put("d", b"0123456789", 60)
    assert [key for key in "abcd" if store.get(key)] == ["a", "c", "d"]
    assert counts == {"eviction": 1}
    assert store.n_bytes == 3 * (KEY_OVERHEAD_BYTES + 11)


def test_memory_drops_what_is_larger_than_all_of_it() -> None:
    counts: Counter[str] = Counter()
    store = MemoryStore(1000, lambda event: counts.update([event]))
    store.put("small", b"v", 60)
    store.put("large", b"v" * 1000, 60)
    assert (store.get("small"), store.get("large")) == (b"v", None)
    assert counts == {"too_large": 1}


def test_memory_counts_expiry_and_gives_the_bytes_back() -> None:
    counts: Counter[str] = Counter()
    clock = Clock()
    store = MemoryStore(1000, lambda event: counts.update([event]), clock)
    store.put("k", b"v", 60)
    clock.now_s += 59.9
    assert store.get("k") == b"v"
    clock.now_s += 0.1
    assert store.get("k") is None
    assert (store.n_bytes, counts) == (0, {"expiry": 1})


class Gated:
    """A store whose `get` waits for the test, or fails."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.n_calls = 0

    def get(self, key: str) -> bytes | None:
        self.n_calls += 1
        assert self.gate.wait(10)
        if self.fails:
            raise StoreDown("told to")
        return b"v"

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self.get(key)

    def clear(self, prefix: str) -> int:
        self.get(prefix)
        return 1

    def close(self) -> None:
        self.gate.set()


def test_a_failure_opens_the_circuit_for_some_seconds_and_one_call_tries_again() -> None:
    clock, inner, counts = Clock(), Gated(), Counter[str]()
    store = PatientStore(inner, lambda event: counts.update([event]), deadline_s=5, open_s=5, clock=clock)
    inner.fails = True
    with pytest.raises(StoreDown):
        store.get("k")
    for _ in range(3):
        with pytest.raises(StoreDown, match="circuit"):
            store.get("k")
    assert inner.n_calls == 1
    assert counts == {"store_error": 1, "store_skipped": 3}
    clock.now_s += 5
    with pytest.raises(StoreDown, match="told to"):
        store.get("k")
    with pytest.raises(StoreDown, match="circuit"):
        store.put("k", b"v", 60)
    clock.now_s += 5
    inner.fails = False
    assert store.get("k") == b"v"
    assert store.get("k") == b"v"
    assert inner.n_calls == 4
    store.close()


def test_nobody_waits_longer_than_the_deadline() -> None:
    inner = Gated()
    store = PatientStore(inner, lambda event: None, deadline_s=0.05, open_s=60)
    inner.gate.clear()
    began = time.monotonic()
    with pytest.raises(StoreDown, match="in time"):
        store.get("k")
    with pytest.raises(StoreDown, match="circuit"):
        store.put("k", b"v", 60)
    assert time.monotonic() - began < 2
    inner.gate.set()
    store.close()


def test_a_server_that_accepts_and_never_answers_costs_one_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_store(
            f"redis://127.0.0.1:{silent.getsockname()[1]}/0", max_bytes=1, deadline_s=0.05, count=lambda event: None
        )
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreDown):
                store.get("m/k")
        assert time.monotonic() - began < 2
        store.close()


def test_a_redis_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    port, clock = free_port(), Clock()
    url = f"redis://127.0.0.1:{port}/0"
    store = PatientStore(RedisStore(url, 1), lambda event: None, deadline_s=5, open_s=5, clock=clock)
    with pytest.raises(StoreDown):
        store.get("m/k")
    clock.now_s += 5
    with redis_server(tmp_path, port):
        store.put("m/k", b"v", 60)
        assert store.get("m/k") == b"v"
    with pytest.raises(StoreDown):
        store.get("m/k")
    clock.now_s += 5
    with redis_server(tmp_path, port):
        assert store.get("m/k") is None
    store.close()
