"""Requests and tokens per key and model, in memory and in a real Redis."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.errors import TooManyRequests
from model_api.repository.keys import Rate
from model_api.web.security.limits import Limiter, headers
from tests.rigs.keyed import bearer
from tests.rigs.redis_server import free_port, redis_server
from tests.web.security.test_gate import BODY, Rig, refused

THREE = (Rate(3, 86400),)
TOKENS = (Rate(100, 86400, "tokens"),)
PATIENCE_S = 5.0


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def limiter(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Limiter]:
    if request.param == "memory":
        yield Limiter("memory", PATIENCE_S)
    else:
        with redis_server(tmp_path) as url:
            yield Limiter(url, PATIENCE_S)


def test_so_many_requests_and_no_more(limiter: Limiter) -> None:
    assert [limiter.admit("mk_a", "m", THREE)[0].remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(TooManyRequests, match="mk_a may have 3 requests/day of m") as caught:
        limiter.admit("mk_a", "m", THREE)
    assert 1 <= caught.value.retry_after_s <= 86400
    assert dict(caught.value.headers)["RateLimit-Remaining"] == "0"


def test_each_key_and_each_model_has_its_own(limiter: Limiter) -> None:
    for _ in range(3):
        limiter.admit("mk_a", "m", THREE)
    assert limiter.admit("mk_a", "other", THREE)[0].remaining == 2
    assert limiter.admit("mk_b", "m", THREE)[0].remaining == 2
    assert limiter.admit("mk_a:m", "", THREE)[0].remaining == 2


def test_tokens_are_counted_after_the_answer_and_the_last_request_may_take_more(limiter: Limiter) -> None:
    limiter.admit("mk_a", "m", TOKENS)
    assert limiter.spend("mk_a", "m", TOKENS, 60)[0].remaining == 40
    limiter.admit("mk_a", "m", TOKENS)
    assert limiter.spend("mk_a", "m", TOKENS, 90)[0].remaining == 0
    with pytest.raises(TooManyRequests, match="100 tokens/day"):
        limiter.admit("mk_a", "m", TOKENS)
    assert limiter.spend("mk_b", "m", TOKENS, 10_000)[0].remaining == 0


def test_the_tightest_rate_is_told_and_all_are_the_policy(limiter: Limiter) -> None:
    rates = (Rate(10, 60), Rate(1000, 3600), Rate(50, 86400, "tokens"))
    limiter.admit("mk_a", "m", rates)
    told = dict(headers(limiter.spend("mk_a", "m", rates, 45)))
    assert (told["RateLimit-Limit"], told["RateLimit-Remaining"]) == ("50", "5")
    assert 0 <= int(told["RateLimit-Reset"]) <= 86400
    assert told["RateLimit-Policy"] == '10;w=60;unit="requests", 1000;w=3600;unit="requests", 50;w=86400;unit="tokens"'


@pytest.mark.integration
def test_two_instances_count_together_in_redis_and_each_alone_without(tmp_path: Path) -> None:
    with redis_server(tmp_path) as url:
        one, two = Limiter(url, PATIENCE_S), Limiter(url, PATIENCE_S)
        one.admit("mk_a", "m", THREE)
        two.admit("mk_a", "m", THREE)
        assert one.admit("mk_a", "m", THREE)[0].remaining == 0
        with pytest.raises(TooManyRequests):
            two.admit("mk_a", "m", THREE)
    # It is away: nobody is kept waiting or let in without a limit, and counting goes on here.
    assert [one.admit("mk_a", "m", THREE)[0].remaining for _ in range(3)] == [2, 1, 0]
    with pytest.raises(TooManyRequests):
        one.admit("mk_a", "m", THREE)


@pytest.mark.integration
def test_a_redis_that_comes_back_is_used_again(tmp_path: Path) -> None:
    port, now = free_port(), [0.0]
    limiter = Limiter(f"redis://127.0.0.1:{port}/0", PATIENCE_S, clock=lambda: now[0])
    limiter.admit("mk_a", "m", THREE)
    with redis_server(tmp_path, port) as url:
        limiter.admit("mk_a", "m", THREE)
        assert Limiter(url, PATIENCE_S).admit("mk_a", "m", THREE)[0].remaining == 2
        now[0] = 6.0
        assert limiter.admit("mk_a", "m", THREE)[0].remaining == 1


def test_at_the_edge(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    token = rig.create("predict", "jobs", rates="2/day")
    for left in ("1", "0"):
        response = rig.predict(**bearer(token))
        assert response.status_code == 200
        assert (response.headers["RateLimit-Limit"], response.headers["RateLimit-Remaining"]) == ("2", left)
    over = rig.predict(**bearer(token))
    assert "2 requests/day of minilm" in refused(over, 429, "too-many-requests")
    assert int(over.headers["Retry-After"]) >= 1
    assert over.headers["RateLimit-Remaining"] == "0"
    assert "RateLimit-Remaining" in over.headers["Access-Control-Expose-Headers"]
    sim = rig.client.post("/sim", json={"target": "a", "texts": ["b"], "model": "minilm"}, headers=bearer(token))
    assert sim.status_code == 429
    told = rig.client.post("/v1/embeddings", json={"model": "minilm", "input": "a"}, headers=bearer(token))
    assert (told.status_code, told.get_json()["error"]["type"]) == (429, "rate_limit_error")
    assert told.headers["Retry-After"]
    # What asks no model isn't counted, nor who has no limit.
    assert rig.client.get("/models", headers=bearer(token)).status_code == 200
    assert "RateLimit-Limit" not in rig.predict(**bearer(rig.create("predict"))).headers
    assert rig.client.post("/predict", json=BODY).status_code == 401


def test_a_request_that_is_refused_for_its_model_costs_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    token = rig.create("predict", models=("minilm",), rates="1/day")
    other = rig.client.post("/predict", json={**BODY, "model": "other"}, headers=bearer(token))
    assert other.status_code == 403
    assert rig.predict(**bearer(token)).status_code == 200
