"""Who can write to the shared Redis, and doesn't know the fleet's secret, can lose answers and forge none."""

import hashlib
import hmac
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_api.serving.cache import Cache, CachedAnswer
from model_api.serving.cache_stores import MAX_VALUE_BYTES, CacheStore, RedisStore, open_store
from model_api.serving.start import Unobserved, open_cache
from model_api.settings import Settings
from tests.rigs.redis_server import redis_server

SECRET, OTHER = b"the fleet's own secret, 32 bytes", b"another fleet's secret, 32 bytes"
KEY = "m/0123"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as address:
        yield address


def fresh() -> CachedAnswer:
    return CachedAnswer.of([[1.0, 2.0]], 3, ())


def fetch(store: CacheStore, counts: Counter[str] | None = None, ttl_s: float = 60.0) -> tuple[CachedAnswer, Any]:
    counted = Counter[str]() if counts is None else counts
    return Cache(store, ttl_s, lambda event: counted.update([event]), SECRET).fetch(KEY, fresh, time.monotonic() + 30)


def forged(body: bytes, secret: bytes) -> bytes:
    """As `to_bytes` seals, around any content."""
    sealed = len(KEY).to_bytes(4, "big") + KEY.encode() + body
    return b"mc2" + hmac.digest(secret, sealed, "sha256") + body


BODY = b"[3,[],1.0]\n[9.9,9.9]"


@pytest.mark.parametrize(
    "value",
    [
        b"mc1" + hashlib.blake2b(BODY, digest_size=16, key=hashlib.blake2b(KEY.encode()).digest()).digest() + BODY,
        forged(BODY, b""),
        forged(BODY, OTHER),
        b"mc2" + bytes(32) + BODY,
        fresh().to_bytes("m/4567", SECRET),
        b"x" * (MAX_VALUE_BYTES + 10),
    ],
    ids=["the checksum of before", "no secret", "another's", "zeros", "another key's", "huge"],
)
def test_a_forged_answer_is_never_given(url: str, value: bytes) -> None:
    client, counts = redis.Redis.from_url(url), Counter[str]()
    client.set(RedisStore.NAMESPACE + KEY, value)
    answer, age_s = fetch(RedisStore(url, 1.0), counts)
    assert (answer.lines, age_s) == ((b"[1.0,2.0]",), None)
    assert counts == {"garbage": 1, "miss": 1}
    assert fetch(RedisStore(url, 1.0))[1] is not None  # the true one has taken its place


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.lists(
        st.integers() | st.text(max_size=2) | st.floats() | st.booleans() | st.none() | st.just([]), max_size=4
    ),
    line=st.binary(max_size=6),
)
def test_even_what_is_sealed_is_checked(header: list[Any], line: bytes) -> None:
    """By a member of the fleet with other ideas: a release before or after."""
    try:
        body = orjson.dumps(header) + b"\n" + line
    except orjson.JSONEncodeError:
        return
    try:
        answer = CachedAnswer.from_bytes(KEY, forged(body, SECRET), SECRET)
    except ValueError:
        return
    assert isinstance(answer.computed_unix_s, float)
    assert all(isinstance(index, int) for index in (*answer.truncated, answer.n_tokens))
    assert [orjson.loads(one) for one in answer.lines]


def test_an_old_answer_put_back_is_too_old(url: str) -> None:
    old = CachedAnswer((b"[0.0]",), 3, (), time.time() - 200.0)
    redis.Redis.from_url(url).set(RedisStore.NAMESPACE + KEY, old.to_bytes(KEY, SECRET))
    assert fetch(RedisStore(url, 1.0))[0].lines == (b"[1.0,2.0]",)


def test_a_key_of_a_wrong_type_opens_no_circuit(url: str) -> None:
    client, counts = redis.Redis.from_url(url), Counter[str]()
    store = open_store(url, max_bytes=0, deadline_s=5.0, count=lambda event: counts.update([event]))
    client.delete(RedisStore.NAMESPACE + KEY)
    client.rpush(RedisStore.NAMESPACE + KEY, "not", "a", "string")
    assert fetch(store)[1] is None
    assert fetch(store)[1] is not None
    assert "store_error" not in counts
    assert "store_skipped" not in counts
    store.close()


def test_without_a_secret_a_shared_cache_is_not_used(url: str, caplog: pytest.LogCaptureFixture) -> None:
    client = redis.Redis.from_url(url)
    secret = SECRET.decode().replace(" ", "-")
    kept = []
    for values in ({}, {"cache_secret": secret}, {"cache_trusted": True}):
        client.flushall()
        cache = open_cache(Settings.model_validate({"cache": url, "cache_timeout_s": 5.0, **values}), Unobserved())
        assert cache is not None
        cache.fetch(KEY, fresh, time.monotonic() + 30)
        cache.close()
        kept.append(client.dbsize())
    assert kept == [0, 1, 1]
    assert caplog.text.count("MODEL_API_CACHE_SECRET is not set") == 1
