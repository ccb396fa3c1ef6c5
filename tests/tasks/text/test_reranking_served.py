"""Rerankers on the running server, by /rerank and /predict."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing.changes import init
from model_api.publishing.draft import draft, publish
from model_api.repository.layout import Layout
from tests.catalogue.kinds_rerankers import BERT
from tests.rigs.models import tiny_model
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
TEXTS = ["the train was good", "a bad day", "the food was late and the film was not very good"]
BODY: dict[str, Any] = {"query": "was the train good?", "texts": TEXTS}


def put(root: Path, folder: Path, name: str, task: str) -> None:
    publish(Layout(root), draft(folder, name, lambda done, total: None, task), lambda done, total: None)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, root = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("efs")
    init(root)
    (folder / "reranker").mkdir()
    BERT(folder / "reranker")
    put(root, folder / "reranker", "ranks", "reranking")
    put(root, tiny_model(folder / "tiny", 1), "tiny", "embedding")
    settings = {"MODEL_API_PRECISION": "float32", "MODEL_API_MODELS": "ranks,tiny", "MODEL_API_CACHE": "memory"}
    with server(folder / "api", MODEL_API_EFS_ROOT=root, **settings) as api:
        api.wait_until_ready()
        yield api


def test_texts_are_scored_in_order_and_the_best_shown(api: Server) -> None:
    answer = api.post("/rerank", {**BODY, "top_k": 2})
    assert answer.status == 200
    found = answer.json()
    assert (found["model"], found["version"]) == ("ranks", "1")
    assert found["digest"] == answer.headers["x-model-digest"]
    assert len(found["scores"]) == 3
    order = sorted(range(3), key=lambda i: -found["scores"][i])
    assert found["top"] == [{"index": i, "score": found["scores"][i]} for i in order[:2]]
    assert found["usage"]["tokens"] > 10
    assert "truncated" not in found


def test_it_is_what_predict_says_also_from_the_cache(api: Server) -> None:
    (prediction,) = api.post("/predict", {"model": "ranks", "inputs": BODY}).json()["predictions"]
    first, again = (api.post("/rerank", {**BODY, "model": "ranks@1"}) for _ in range(2))
    assert first.json()["scores"] == again.json()["scores"] == prediction["scores"]
    assert "age" in again.headers
    assert "top" not in again.json()


def test_what_is_too_long_is_refused_or_cut(api: Server) -> None:
    long = {**BODY, "texts": [TEXTS[0], "the train " * 1000]}
    refused = api.post("/rerank", long)
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == "/texts/1"
    cut = api.post("/rerank", {**long, "parameters": {"truncate": True}}).json()
    assert cut["truncated"] is True
    assert len(cut["scores"]) == 2


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"texts": []}, "/texts"),
        ({"texts": "a text"}, "/texts"),
        ({"texts": [TEXTS[0], ""]}, "/texts/1"),
        ({"texts": [TEXTS[0], 3]}, "/texts/1"),
        ({"query": ""}, "/query"),
        ({"query": None}, "/query"),
        ({"top_k": 0}, "/top_k"),
        ({"top_n": 3}, "/top_n"),
        ({"model": "tiny"}, "/model"),
        ({"parameters": {"truncat": True}}, "/parameters/truncat"),
        ({"texts": ["a"] * 1001}, "/texts"),
    ],
)
def test_what_is_wrong_is_pointed_at(api: Server, change: dict[str, Any], pointer: str) -> None:
    refused = api.post("/rerank", {**BODY, **change})
    assert refused.status == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


def test_an_unknown_model_is_a_404_and_a_get_a_405(api: Server) -> None:
    assert api.post("/rerank", {**BODY, "model": "rank"}).status == 404
    assert api.get("/rerank").status == 405


def test_no_reranker_or_two_must_be_chosen_among(api: Server, tmp_path: Path, tiny_store: Path) -> None:
    with server(tmp_path, MODEL_API_EFS_ROOT=tiny_store, MODEL_API_MODELS="tiny") as other:
        other.wait_until_ready()
        refused = other.post("/rerank", BODY)
        assert refused.status == 422
        assert "none is served" in refused.json()["detail"]
