"""Classification, summarization, scoring and the cache on the running server."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transformers

from model_api.publishing.changes import init
from model_api.publishing.draft import draft, publish
from model_api.repository.layout import Layout
from model_api.serving.text_scores import SCORES, score_pair
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_model, save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

pytestmark = pytest.mark.integration
KEY = "an-operator-key-for-tests"
ARTICLE = "The train was late. The food was good! A bad day for the film. It was not very good."


def put(root: Path, folder: Path, name: str, task: str) -> None:
    publish(Layout(root), draft(folder, name, lambda done, total: None, task), lambda done, total: None)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, root = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("efs")
    init(root)
    save_small_t5(folder / "t5")
    save_small_tokenizer(folder / "t5", max_tokens=512, ends="t5")
    put(root, folder / "t5", "summary", "summarization")

    def classifier(config: Any) -> Any:
        config.num_labels = 3
        return transformers.AutoModelForSequenceClassification.from_config(config)

    save_small_model("roberta", folder / "kinds", classifier)
    save_small_tokenizer(folder / "kinds", max_tokens=64)
    put(root, folder / "kinds", "kinds", "text-classification")
    save_small_model("bert", folder / "encoder")
    save_small_tokenizer(folder / "encoder", max_tokens=64)
    put(root, folder / "encoder", "extract", "extractive-summarization")
    put(root, folder / "encoder", "vectors", "embedding")
    settings = {"MODEL_API_EFS_ROOT": root, "MODEL_API_OPERATOR_KEY": KEY, "MODEL_API_PRECISION": "float32"}
    with server(tmp_path_factory.mktemp("server"), **settings, MODEL_API_CACHE="memory") as running:
        running.wait_until_ready()
        yield running


def ask(api: Server, model: str, inputs: Any, **more: Any) -> Any:
    response = api.post("/predict", {"model": model, "inputs": inputs, **more})
    assert response.status == 200, response.body
    return response.json()["predictions"]


def test_all_tasks_answer(api: Server) -> None:
    (kind,) = ask(api, "kinds", "a good film", parameters={"all_labels": True})
    assert sum(row["score"] for row in kind["labels"]) == pytest.approx(1, abs=1e-5)
    (generated,) = ask(api, "summary", ARTICLE, parameters={"max_new_tokens": 8, "num_beams": 2})
    assert set(generated) == {"text", "tokens", "finish_reason"}
    (extracted,) = ask(api, "extract", ARTICLE, parameters={"max_sentences": 1})
    assert len(extracted["sentences"]) == 1
    assert all(ARTICLE[s["start"] : s["end"]] == s["text"] for s in extracted["sentences"])
    assert api.get("/models/summary").json()["precision"] == "float32"


def test_a_batch_with_one_bad_article_names_it(api: Server) -> None:
    response = api.post("/predict", {"model": "summary", "inputs": ["fine", "", "fine"]})
    assert response.status == 422
    assert response.json()["errors"][0]["pointer"] == "/inputs/1"
    response = api.post("/predict", {"model": "summary", "inputs": ["fine"], "parameters": {"max_new_tokens": 10_000}})
    assert response.json()["errors"][0]["pointer"] == "/parameters/max_new_tokens"


def test_a_cached_answer_says_so_and_is_the_same_to_the_byte(api: Server) -> None:
    body = {"model": "vectors", "inputs": ["the food was good", "a bad day"]}
    first, second = api.post("/predict", body), api.post("/predict", body)
    fresh = api.post("/predict", body, **{"Cache-Control": "no-cache"})
    assert "age" not in first.headers
    assert int(second.headers["age"]) < 60
    assert "age" not in fresh.headers
    assert first.body == second.body == fresh.body
    assert second.headers["x-model-digest"] == first.headers["x-model-digest"]


def test_samples_are_not_cached(api: Server) -> None:
    parameters = {"temperature": 1.5, "max_new_tokens": 16}
    texts = {str(ask(api, "summary", "food", parameters=parameters)) for _ in range(4)}
    assert len(texts) > 1
    seeded = {str(ask(api, "summary", "food", parameters={**parameters, "seed": 3})) for _ in range(3)}
    assert len(seeded) == 1


def test_the_operator_clears_the_cache(api: Server) -> None:
    body = {"model": "kinds", "inputs": ["cleared"]}
    assert "age" not in api.post("/predict", body).headers
    assert "age" in api.post("/predict", body).headers
    client = api.client()
    assert client.ask("DELETE", "/cache?model=kinds").status == 401
    cleared = client.ask("DELETE", "/cache?model=kinds", headers={"Authorization": f"Bearer {KEY}"})
    client.close()
    assert cleared.json()["removed"] >= 1
    assert "age" not in api.post("/predict", body).headers


def test_score_predicts_first_where_a_model_is_given(api: Server) -> None:
    inputs = ["the food was good. the day was bad.", ARTICLE]
    body = {"targets": ["good food", "a late train"], "model": "extract", "inputs": inputs}
    answer = api.post("/score", {**body, "parameters": {"max_sentences": 1}})
    assert answer.status == 200, answer.body
    document = answer.json()
    assert answer.headers["x-model"] == document["model"] == "extract"
    for target, prediction, item in zip(body["targets"], document["predictions"], document["items"], strict=True):
        assert item == pytest.approx(score_pair(target, prediction["text"]))
    assert set(document["scores"]) == set(SCORES)
    wrong = api.post("/score", {"targets": ["a"], "model": "vectors", "inputs": ["a"]})
    assert wrong.status == 422


def test_sim_is_answered_while_summaries_are_generated(api: Server) -> None:
    """Generation has a runner of its own: however much of it waits, a short request finds a lane."""
    long = {"model": "summary", "inputs": [f"{ARTICLE} {i}" for i in range(4)], "parameters": {"max_new_tokens": 100}}
    sim = {"target": "good food", "texts": ["bad food"], "model": "vectors"}
    with ThreadPoolExecutor(4) as threads:
        running = [
            threads.submit(api.post, "/predict", {**long, "parameters": {"max_new_tokens": 100 + i}}) for i in range(4)
        ]
        answered = 0
        while not all(future.done() for future in running):
            began = time.monotonic()
            assert api.post("/sim", sim).status == 200
            assert time.monotonic() - began < 2
            answered += 1
        assert [future.result().status for future in running] == [200] * 4
    assert answered > 3
