"""One suite for every place where cached answers may lie."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.serving.cache_stores import CacheStore, open_store
from tests.rigs.redis_server import redis_server


@pytest.fixture(scope="module", params=["memory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheStore]:
    if request.param == "memory":
        yield from _opened("memory")
        return
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield from _opened(url)


def _opened(where: str) -> Iterator[CacheStore]:
    store = open_store(where, max_bytes=10_000_000, deadline_s=5, count=lambda event: None)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def empty(store: CacheStore) -> None:
    store.clear("")


def test_unknown_key_is_none(store: CacheStore) -> None:
    assert store.get("m/nothing") is None


@pytest.mark.parametrize("value", [b"\0", b"\0\n\xff" * 100, b"x" * 1_000_000], ids=["one", "binary", "megabyte"])
def test_keeps_bytes(store: CacheStore, value: bytes) -> None:
    store.put("m/k", value, ttl_s=60)
    assert store.get("m/k") == value


def test_a_later_value_replaces(store: CacheStore) -> None:
    store.put("m/k", b"one", ttl_s=60)
    store.put("m/k", b"two", ttl_s=60)
    assert store.get("m/k") == b"two"


def test_expires(store: CacheStore) -> None:
    store.put("m/short", b"v", ttl_s=0.05)
    store.put("m/long", b"v", ttl_s=60)
    give_up = time.monotonic() + 5
    while store.get("m/short") is not None:
        assert time.monotonic() < give_up, "never expired"
    assert store.get("m/long") == b"v"


def test_clears_one_model_s_keys_only(store: CacheStore) -> None:
    for key in ("m/1", "m/2", "m2/1", "m-x/1"):
        store.put(key, b"v", ttl_s=60)
    assert store.clear("m/") == 2
    assert [store.get(key) for key in ("m/1", "m/2", "m2/1", "m-x/1")] == [None, None, b"v", b"v"]
    assert store.clear("") == 2
    assert store.clear("") == 0


def test_no_character_of_a_prefix_is_a_wildcard(store: CacheStore) -> None:
    store.put("ab/1", b"v", ttl_s=60)
    assert [store.clear(prefix) for prefix in ("*/", "a?/", "[a]b/")] == [0, 0, 0]
    assert store.get("ab/1") == b"v"


def test_many_threads(store: CacheStore) -> None:
    wrong: list[str] = []

    def work(n: int) -> None:
        for i in range(100):
            key = f"m/{n}-{i}"
            store.put(key, key.encode(), ttl_s=60)
            if store.get(key) != key.encode():
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_redis_is_shared_and_leaves_other_keys_alone(tmp_path: Path) -> None:
    import redis

    with redis_server(tmp_path) as url:
        client = redis.Redis.from_url(url)
        client.set("someone-else", b"theirs")
        first, second = (open_store(url, max_bytes=1, deadline_s=5, count=lambda event: None) for _ in range(2))
        first.put("m/k", b"v", ttl_s=60)
        assert second.get("m/k") == b"v"
        assert second.clear("") == 1
        assert client.get("someone-else") == b"theirs"
        for closable in (first, second, client):
            closable.close()
