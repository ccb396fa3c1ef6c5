import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from model_api.errors import CallerLeft, DeadlineExceeded, ForwardFailed
from model_api.serving.cache import Cache, CachedAnswer, cache_key
from model_api.serving.cache_stores import CacheStore, MemoryStore, StoreDown, open_store
from tests.rigs.redis_server import redis_server

KEY: dict[str, Any] = {
    "model": "m",
    "digest": "d",
    "precision": "float32",
    "task": "t",
    "parameters": {"k": 1},
    "inputs": ["a"],
}


SECRET = b"the fleet's own secret, 32 bytes"


def entry(predictions: list[Any]) -> CachedAnswer:
    return CachedAnswer.of(predictions, n_tokens=3, truncated=(0,))


def in_a_minute() -> float:
    return time.monotonic() + 60


class Counted:
    """A memory cache, and what it counted."""

    def __init__(self, store: CacheStore | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.store = store or MemoryStore(1_000_000, self.count)
        self.cache = Cache(self.store, ttl_s=60, count=self.count, secret=SECRET)

    def count(self, event: str) -> None:
        self.counts[event] += 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": "m2"},
        {"digest": "d2"},
        {"precision": "bfloat16"},
        {"task": "t2"},
        {"parameters": {"k": 2}},
        {"parameters": {}},
        {"inputs": ["b"]},
        {"inputs": ["a", "a"]},
        {"inputs": [["a"]]},
    ],
    ids=str,
)
def test_everything_that_changes_the_answer_changes_the_key(change: dict[str, Any]) -> None:
    assert cache_key(**{**KEY, **change}) != cache_key(**KEY)


def test_the_order_of_parameters_does_not() -> None:
    one, two = ({**KEY, "parameters": p} for p in ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1}))
    assert cache_key(**one) == cache_key(**two)


def test_a_cached_answer_equals_the_computed_one_to_the_byte() -> None:
    counted = Counted()
    vector = (np.random.default_rng(0).standard_normal(384) * 10.0 ** np.arange(-192, 192).clip(-30, 30)).astype("f4")
    predictions = [vector, {"label": "größer\n\u2028", "score": 1e-7}]
    computed, no_age = counted.cache.fetch("m/k", lambda: entry(predictions), in_a_minute())
    cached, age_s = counted.cache.fetch("m/k", lambda: pytest.fail("computed twice"), in_a_minute())
    assert orjson.dumps(cached.fragments) == orjson.dumps(computed.fragments)
    assert orjson.dumps(computed.fragments) == orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)
    assert (cached.n_tokens, cached.truncated) == (3, (0,))
    assert no_age is None
    assert age_s is not None
    assert 0 <= age_s < 60
    assert counted.counts == {"miss": 1, "hit": 1}


def test_no_predictions_at_all() -> None:
    made = entry([])
    assert CachedAnswer.from_bytes("m/k", made.to_bytes("m/k", SECRET), SECRET) == made


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", b"mc1", None, b"{}"], ids=["empty", "text", "magic", "other", "json"]
)
def test_garbage_is_a_miss_and_counted(garbage: bytes | None) -> None:
    counted = Counted()
    if garbage is None:  # another key's entry, whole
        garbage = entry(["other"]).to_bytes("m/other", SECRET)
    counted.store.put("m/k", garbage, 60)
    found, age_s = counted.cache.fetch("m/k", lambda: entry(["fresh"]), in_a_minute())
    assert (found.lines, age_s) == ((b'"fresh"',), None)
    assert counted.counts == {"garbage": 1, "miss": 1}
    assert counted.cache.fetch("m/k", lambda: entry(["again"]), in_a_minute())[0].lines == (b'"fresh"',)


def test_a_flipped_bit_anywhere_is_noticed() -> None:
    value = entry(["text"]).to_bytes("m/k", SECRET)
    for position in range(len(value)):
        damaged = bytearray(value)
        damaged[position] ^= 1
        with pytest.raises(ValueError):
            CachedAnswer.from_bytes("m/k", bytes(damaged), SECRET)


def together(n: int, call: Callable[[int], Any]) -> list[Any]:
    """`call(i)` on n threads, started at one moment; results or exceptions."""
    start = threading.Barrier(n)

    def run(i: int) -> Any:
        start.wait(30)
        try:
            return call(i)
        except Exception as error:
            return error

    with ThreadPoolExecutor(n) as threads:
        return list(threads.map(run, range(n)))


def test_a_thousand_identical_requests_compute_once() -> None:
    counted = Counted()
    n_computed = []

    def compute() -> CachedAnswer:
        n_computed.append(1)
        return entry(["answer"])

    answers = together(200, lambda i: [counted.cache.fetch("m/k", compute, in_a_minute())[0].lines for _ in range(5)])
    assert answers == [[(b'"answer"',)] * 5] * 200
    assert len(n_computed) == 1
    assert counted.counts["miss"] == 1
    assert counted.counts["hit"] + counted.counts["joined"] == 999


def test_different_requests_do_not_wait_for_each_other() -> None:
    counted = Counted()
    both = threading.Barrier(2)

    def compute(i: int) -> CachedAnswer:
        both.wait(30)  # passes only when both compute at once
        return entry([i])

    answers = together(2, lambda i: counted.cache.fetch(f"m/{i}", lambda: compute(i), in_a_minute())[0].lines)
    assert answers == [(b"0",), (b"1",)]


class Leader:
    """A computation that a test holds, so that others join it."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.started, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> CachedAnswer:
        self.started.set()
        assert self.may_end.wait(30)
        raise self.error


def lead_and_follow(counted: Counted, leader: Leader, follow: Callable[[], CachedAnswer]) -> tuple[Any, Any]:
    with ThreadPoolExecutor(2) as threads:
        led = threads.submit(counted.cache.fetch, "m/k", leader, in_a_minute())
        assert leader.started.wait(30)
        followed = threads.submit(counted.cache.fetch, "m/k", follow, in_a_minute())
        leader.may_end.set()
        return led.exception(), followed


def test_an_error_of_the_input_reaches_all_who_joined() -> None:
    counted, leader = Counted(), Leader(ForwardFailed("the model failed on this input"))
    error, followed = lead_and_follow(counted, leader, leader)
    assert error is leader.error
    assert followed.exception() is leader.error or isinstance(followed.exception(), ForwardFailed)
    assert counted.store.get("m/k") is None


@pytest.mark.parametrize("error", [DeadlineExceeded("late"), CallerLeft("left")], ids=str)
def test_an_error_of_the_leader_alone_lets_the_next_one_compute(error: Exception) -> None:
    counted = Counted()
    led, followed = lead_and_follow(counted, Leader(error), lambda: entry(["second"]))
    assert led is error
    assert followed.result()[0].lines == (b'"second"',)


def test_a_joined_request_waits_no_longer_than_its_own_deadline() -> None:
    counted, leader = Counted(), Leader(ForwardFailed("late"))
    with ThreadPoolExecutor(1) as threads:
        led = threads.submit(counted.cache.fetch, "m/k", leader, in_a_minute())
        assert leader.started.wait(30)
        with pytest.raises(DeadlineExceeded):
            counted.cache.fetch("m/k", leader, time.monotonic() + 0.01)
        leader.may_end.set()
        assert isinstance(led.exception(), ForwardFailed)


def test_refresh_computes_and_replaces() -> None:
    counted = Counted()
    counted.cache.fetch("m/k", lambda: entry(["old"]), in_a_minute())
    assert counted.cache.refresh("m/k", lambda: entry(["new"])).lines == (b'"new"',)
    assert counted.cache.fetch("m/k", lambda: entry(["newer"]), in_a_minute())[0].lines == (b'"new"',)
    assert counted.counts == {"miss": 1, "bypass": 1, "hit": 1}


def test_clear_forgets_one_model_or_all() -> None:
    counted = Counted()
    for key in ("a/1", "a/2", "b/1"):
        counted.cache.fetch(key, lambda: entry(["v"]), in_a_minute())
    assert counted.cache.clear("a") == 2
    assert counted.cache.clear(None) == 1


def test_a_store_that_is_down_is_never_an_error() -> None:
    class Down:
        def get(self, key: str) -> bytes | None:
            raise StoreDown("down")

        def put(self, key: str, value: bytes, ttl_s: float) -> None:
            raise StoreDown("down")

        def clear(self, prefix: str) -> int:
            raise StoreDown("down")

        def close(self) -> None: ...

    counted = Counted(Down())
    for _ in range(2):
        assert counted.cache.fetch("m/k", lambda: entry(["v"]), in_a_minute())[0].lines == (b'"v"',)
    assert counted.counts == {"miss": 2}


def test_over_a_real_redis_with_garbage_in_it(tmp_path: Path) -> None:
    import redis

    with redis_server(tmp_path) as url:
        counted = Counted(open_store(url, max_bytes=1, deadline_s=5, count=lambda event: None))
        assert counted.cache.fetch("m/k", lambda: entry([1]), in_a_minute())[1] is None
        assert counted.cache.fetch("m/k", lambda: entry([2]), in_a_minute())[0].lines == (b"1",)
        with redis.Redis.from_url(url) as client:
            (key,) = client.keys("model_api:*")
            client.set(key, b"\x80\x04garbage")
        assert counted.cache.fetch("m/k", lambda: entry([3]), in_a_minute())[0].lines == (b"3",)
        assert counted.counts == {"miss": 2, "hit": 1, "garbage": 1}
        counted.cache.close()
