"""A real server that keeps what it predicts, and whose database fails it."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from model_api.history.store import Store
from model_api.history.tables import PREDICTIONS
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.sql_servers import mariadb, postgresql

pytestmark = pytest.mark.integration
TEXTS = ["one text", "another, with a \0 in it"]


@contextlib.contextmanager
def serving(folder: Path, store: Path, **settings: object) -> Iterator[Server]:
    with server(folder, MODEL_API_EFS_ROOT=store, **settings) as api:
        api.wait_for_model("tiny", state="serving")
        yield api


def rows(url: str) -> list[dict[str, Any]]:
    store = Store(url)
    with store.database.reading() as connection:
        found = [dict(row) for row in connection.execute(select(PREDICTIONS).order_by(PREDICTIONS.c.id)).mappings()]
    store.close()
    return found


def metric(api: Server, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(api.get("/metrics").body.decode())
    samples = [s for family in families for s in family.samples if s.name == name and s.labels == labels]
    return samples[0].value if samples else 0.0


def kept(api: Server) -> float:
    return metric(api, "model_api_history_predictions_total", event="kept")


def test_what_is_predicted_is_kept(tmp_path: Path, tiny_store: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.jobs/history.sqlite"
    with serving(tmp_path, tiny_store, MODEL_API_LOG_PREDICTIONS="full", MODEL_API_CACHE="memory") as api:
        told = {"X-Source": "mobile app", "X-User": "u1", "X-Topic": "weather"}
        for _ in range(2):  # the second is answered by the cache
            assert api.post("/predict", {"model": "tiny", "inputs": TEXTS}, **told).status == 200
        wait_until(lambda: kept(api) == 4)
        assert api.post("/sim", {"model": "tiny", "target": "a", "texts": ["b", "c"]}).status == 200
        wait_until(lambda: kept(api) == 5)
        assert api.post("/score", {"targets": ["a b"], "predictions": ["a c"]}).status == 200
        assert api.post("/predict", {"model": "tiny", "inputs": [""]}).status == 422
        wait_until(lambda: kept(api) == 6)
        found = rows(url)
    assert [row["source"] for row in found] == ["mobile app"] * 4 + ["api"] * 2
    assert [orjson.loads(row["input"]) for row in found[:4]] == TEXTS * 2
    assert [row["cached"] for row in found] == [0, 0, 1, 1, 0, 0]
    assert found[0]["prediction"] == found[2]["prediction"]
    assert (found[0]["user_name"], found[0]["topic"], found[0]["version"]) == ("u1", "weather", "1")
    assert found[4]["score"] == max(orjson.loads(found[4]["prediction"])["sims"])
    assert (found[5]["task"], found[5]["input"], found[5]["rouge1"]) == ("scoring", None, 0.5)


def test_off_is_off(tmp_path: Path, tiny_store: Path) -> None:
    with serving(tmp_path, tiny_store) as api:
        assert api.post("/predict", {"model": "tiny", "inputs": TEXTS}).status == 200
        assert kept(api) == 0
    assert not (tmp_path / "store.jobs/history.sqlite").exists()


def test_a_stop_loses_nothing(tmp_path: Path, tiny_store: Path) -> None:
    with serving(tmp_path, tiny_store, MODEL_API_LOG_PREDICTIONS="hash") as api:
        assert api.post("/predict", {"model": "tiny", "inputs": TEXTS}).status == 200
    found = rows(f"sqlite:///{tmp_path}/store.jobs/history.sqlite")
    assert len(found) == 2
    assert all(row["input"] is None and row["input_sha256"] for row in found)


@pytest.mark.parametrize("database", [postgresql, mariadb])
def test_a_database_that_hangs_slows_nobody(tmp_path: Path, tiny_store: Path, database: Any) -> None:
    with database() as where:
        url = where.new_database()
        settings: dict[str, object] = {"MODEL_API_LOG_PREDICTIONS": "full", "MODEL_API_DATABASE_URL": url}
        with serving(tmp_path, tiny_store, **settings) as api:
            ask = {"model": "tiny", "inputs": TEXTS}
            assert api.post("/predict", ask).status == 200
            wait_until(lambda: kept(api) == 2)
            where.freeze()
            slowest = 0.0
            for _ in range(50):
                began = time.monotonic()
                assert api.post("/predict", ask).status == 200
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 4  # far below what the database is waited for
            where.thaw()
            wait_until(lambda: kept(api) == 102, within_s=60)
        assert len(rows(url)) == 102


def test_a_database_that_is_away_is_told_and_nothing_else(tmp_path: Path, tiny_store: Path) -> None:
    (tmp_path / "file").touch()
    away = f"sqlite:///{tmp_path}/file/history.sqlite"
    with serving(tmp_path, tiny_store, MODEL_API_LOG_PREDICTIONS="full", MODEL_API_DATABASE_URL=away) as api:
        assert api.post("/predict", {"model": "tiny", "inputs": TEXTS}).status == 200
        wait_until(lambda: "the history can't be kept" in api.log_path.read_text())
        assert api.get("/healthz").status == api.get("/readyz").status == 200
        (tmp_path / "file").unlink()
        wait_until(lambda: kept(api) == 2, within_s=30)


def test_logged_pairs_are_scored_where_everybodys_are(tmp_path: Path, tiny_store: Path) -> None:
    with serving(tmp_path, tiny_store) as api:
        words = " ".join(f"w{i}" for i in range(3000))  # two of them would take longer than a pair may
        items: list[dict[str, Any]] = [
            {"input": "article", "prediction": "the bridge opens monday", "reference": "the bridge opens on monday"},
            {"input": "article", "prediction": {"text": "a"}, "reference": "b"},
            {"input": "article", "prediction": words, "reference": words},
        ]
        logged = api.post("/log", {"items": items})
        assert logged.status == 201
        first, second, third = (f"/history/{one}" for one in logged.json()["ids"])
        found = wait_until(lambda: api.get(second).json()["scores"], within_s=60)
        assert found == dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"), 0.0)
        wanted = api.post("/score", {"predictions": [items[0]["prediction"]], "targets": [items[0]["reference"]]})
        assert api.get(first).json()["scores"] == wanted.json()["items"][0]
        assert api.get(third).json()["scores"] is None
        assert api.get("/history/statistics").json()["measures"]["bleu"]["n"] == 2


def test_a_model_that_is_scored_has_its_references(tmp_path: Path, tiny_store: Path) -> None:
    """Embeddings predict no texts: the refusal is told, and what was predicted is kept all the same."""
    with serving(tmp_path, tiny_store, MODEL_API_LOG_PREDICTIONS="full") as api:
        assert api.post("/score", {"model": "tiny", "inputs": ["a"], "targets": ["b"]}).status == 422
        wait_until(lambda: kept(api) == 1)
        (found,) = api.get("/history?model=tiny").json()["predictions"]
        assert (found["input"], found["reference"], found["scores"]) == ("a", "b", None)
