"""The earlier summarizer's own routes: what its page calls works, and what was wrong with it is told."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_api.history.opening import History
from tests.rigs.stand_in_service import stand_in_app

ONE = {"article": "a long article", "summ": "short", "target": "brief", "model_source": "web", "send_arize": False}


@pytest.fixture
def history_and_client(tmp_path: Path) -> Iterator[tuple[History, FlaskClient]]:
    app, _ = stand_in_app(jobs_dir=tmp_path)
    yield app.extensions["model_api_history"], app.test_client()
    app.extensions["model_api_history"].stop()


@pytest.fixture
def client(history_and_client: tuple[History, FlaskClient]) -> FlaskClient:
    return history_and_client[1]


def told(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json


def test_initialising_twice_takes_nothing_away(client: FlaskClient) -> None:
    first = told(client.post("/db/init"))
    assert told(client.post("/log/online", json=ONE)) == 1
    assert told(client.post("/db/init")) == first
    assert first["samples"] == 6
    assert len(told(client.get("/history/list"))) == 1


def test_samples_come_with_their_truth(client: FlaskClient) -> None:
    client.post("/db/init")
    pair = told(client.get("/sample/pair"))
    pairs = told(client.get("/sample/pairs?num_sample=4"))
    assert len(pairs) == len({one["article"] for one in pairs}) == 4
    assert all(one["article"] and one["target"] for one in [pair, *pairs])
    assert len(told(client.get("/sample/pairs"))) == 6


def test_what_is_logged_is_listed_by_its_names(history_and_client: tuple[History, FlaskClient]) -> None:
    history, client = history_and_client
    assert told(client.post("/log/online", json=ONE)) == 1
    assert told(client.post("/log/online", json={"article": "b", "summ": "c"})) == 1
    batch = {"articles": ["d", "e"], "summs": ["f", "g"], "targets": ["h", "i"], "model_source": "batch"}
    assert told(client.post("/log/batch", json=batch)) == 2
    assert told(client.post("/log/batch", json={"articles": [], "summs": []})) == 0
    (waiting, *_) = history.store.waiting_pairs(10)
    scores = {"rouge1": 0.1, "rouge2": 0.2, "rougeL": 0.3, "rougeLsum": 0.4, "bleu": 0.5}
    history.store.score_pairs({waiting[0]: scores})
    rows = told(client.get("/history/list?num_record=3"))
    assert [row["document"] for row in rows] == ["e", "d", "b"]
    assert (rows[2]["model_source"], rows[2]["reference_summary"], rows[2]["score_blue"]) == ("Other", None, None)
    oldest = told(client.get("/history/list"))[-1]
    assert {name: oldest[name] for name in ("document", "summary", "reference_summary", "model_source")} == {
        "document": "a long article",
        "summary": "short",
        "reference_summary": "brief",
        "model_source": "web",
    }
    assert (oldest["score_rouge1"], oldest["score_rougeL"], oldest["score_blue"]) == (0.1, 0.3, 0.5)
    counts = told(client.get("/history/count?freq=Hour"))
    assert {(one["model_source"], one["count"]) for one in counts} == {("web", 1), ("Other", 1), ("batch", 2)}
    score = told(client.get("/history/score"))["score_rouge2"]
    assert score == {"min": 0.2, "avg": 0.2, "max": 0.2, "std": 0.0, "count": 1}
    now = datetime.now(UTC)
    span = f"last_ts={(now - timedelta(days=3)).isoformat()}&cur_ts={(now - timedelta(days=2)).isoformat()}"
    assert told(client.get(f"/history/count?{span}")) == []
    assert told(client.get(f"/history/score?{span}")) == {}


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/log/online", {"article": "a"}, "/summ"),
        ("/log/online", {**ONE, "more": 1}, "/more"),
        ("/log/online", {**ONE, "article": "x" * 2**20}, "/article"),
        ("/log/online", {**ONE, "model_source": "a\0"}, "/model_source"),
        ("/log/batch", {"articles": ["a", "b"], "summs": ["c"]}, "/summs"),
        ("/log/batch", {"articles": ["a"], "summs": ["c"], "targets": []}, "/targets"),
        ("/log/batch", {"articles": ["a"], "summs": [1]}, "/summs/0"),
        ("/log/batch", {"articles": ["a"] * 1001, "summs": ["c"] * 1001}, "/articles"),
    ],
)
def test_bad_logs_are_told_by_place(client: FlaskClient, path: str, body: Any, pointer: str) -> None:
    response = client.post(path, json=body)
    assert response.status_code == 422
    assert response.json is not None
    assert response.json["errors"][0]["pointer"] == pointer
    assert told(client.get("/history/list")) == []


@pytest.mark.parametrize(
    ("address", "pointer"),
    [
        ("/sample/pairs?num_sample=0", "/num_sample"),
        ("/history/list?num_record=10000", "/num_record"),
        ("/history/list?num=1", "/num"),
        ("/history/count?freq=Week", "/freq"),
        ("/history/count?cur_ts=now", "/cur_ts"),
        ("/history/score?last_ts=2026-03-02&cur_ts=2026-03-01", "/last_ts"),
    ],
)
def test_bad_questions_are_told_by_place(client: FlaskClient, address: str, pointer: str) -> None:
    response = client.get(address)
    assert response.status_code == 422
    assert response.json is not None
    assert response.json["errors"][0]["pointer"] == pointer
