"""The contract on the real model, through real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.rigs.models import minilm_folder
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration

TEXTS = [
    "A cat sits on the mat.",
    "A kitten is sitting on a rug.",
    "Stocks fell sharply today.",
    "x",
    "Ünïcödé, 東京タワー, Привет мир, שלום, 🙂🙃 and \u200bzero width",
    "a ||| b",
    'quotes " and \\ backslashes \t tabs \n lines',
    "The weights are published once and served by every instance. " * 12,
]


@pytest.fixture(scope="module")
def reference() -> npt.NDArray[np.float32]:
    """sentence-transformers' own vectors of TEXTS, in float32."""
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXTS, normalize_embeddings=True))


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def precise_api(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, minilm_store: Path
) -> Iterator[tuple[Server, float]]:
    """A server and how near its scores must come to sentence-transformers'."""
    settings = {"MODEL_API_EFS_ROOT": minilm_store, "MODEL_API_PRECISION": request.param}
    with server(tmp_path_factory.mktemp("precise"), **settings) as api:
        api.wait_until_ready()
        yield api, {"float32": 1e-5, "bfloat16": 5e-3}[request.param]


def test_sim_gives_sentence_transformers_scores(
    precise_api: tuple[Server, float], reference: npt.NDArray[np.float32]
) -> None:
    api, tolerance = precise_api
    answer = api.post("/sim", {"target": TEXTS[0], "texts": TEXTS[1:]})
    assert answer.status == 200, answer.body
    document = answer.json()
    assert document.keys() == {"type", "context"}
    assert document["type"] == "sentence similarity"
    assert document["context"].keys() == {"target", "texts", "sims"}
    assert document["context"]["target"] == TEXTS[0]
    assert document["context"]["texts"] == TEXTS[1:]
    np.testing.assert_allclose(document["context"]["sims"], reference[1:] @ reference[0], rtol=0, atol=tolerance)


def test_predict_gives_sentence_transformers_vectors(
    precise_api: tuple[Server, float], reference: npt.NDArray[np.float32]
) -> None:
    api, tolerance = precise_api
    document = api.post("/predict", {"model": "minilm", "inputs": TEXTS}).json()
    assert (document["model"], document["version"], document["task"]) == ("minilm", "1", "embedding")
    assert len(document["digest"]) == 64
    vectors = np.array(document["predictions"])
    assert vectors.shape == (len(TEXTS), 384)
    np.testing.assert_allclose(vectors, reference, rtol=0, atol=tolerance)
    assert document["usage"]["tokens"] > len(TEXTS)


def test_the_same_text_gives_the_same_bits_alone_and_beside_others(minilm_api: Server) -> None:
    def vectors(inputs: list[str]) -> list[Any]:
        return list(minilm_api.post("/predict", {"model": "minilm", "inputs": inputs}).json()["predictions"])

    together = vectors(TEXTS)
    with ThreadPoolExecutor(len(TEXTS)) as callers:
        alone = list(callers.map(lambda text: vectors([text])[0], TEXTS))
    assert alone == together
    assert vectors(TEXTS[::-1])[::-1] == together


def test_no_texts_give_no_scores(minilm_api: Server) -> None:
    answer = minilm_api.post("/sim", {"target": "a", "texts": []})
    assert answer.json() == {"type": "sentence similarity", "context": {"target": "a", "texts": [], "sims": []}}


def test_sixty_four_callers_each_get_their_own_answer(minilm_api: Server) -> None:
    def ask(n: int) -> bool:
        texts = [f"caller {n} text {i}" for i in range(n % 5 + 1)]
        context = minilm_api.post("/sim", {"target": texts[0], "texts": texts}).json()["context"]
        return (
            context["target"] == texts[0]
            and context["texts"] == texts
            and len(context["sims"]) == len(texts)
            and abs(context["sims"][0] - 1) < 1e-4
            and max(context["sims"][1:], default=0) < 1
        )

    with ThreadPoolExecutor(64) as callers:
        assert all(callers.map(ask, range(256)))


def test_an_answer_names_its_weights_and_its_time(minilm_api: Server) -> None:
    answer = minilm_api.post("/predict", {"model": "minilm", "inputs": "one"}, **{"X-Request-Id": "my-id-1"})
    document = answer.json()
    assert answer.headers["x-model"] == "minilm"
    assert answer.headers["x-model-version"] == document["version"]
    assert answer.headers["x-model-digest"] == document["digest"]
    assert answer.headers["x-request-id"] == "my-id-1"
    assert {part.split(";")[0].strip() for part in answer.headers["server-timing"].split(",")} >= {"queue", "forward"}
    (line,) = [r for r in minilm_api.log_records() if r.get("id") == "my-id-1"]
    assert (line["model"], line["version"], line["status"]) == ("minilm", "1", 200)
    assert line["batch_size"] >= 1
    assert line["queue_ms"] >= 0
    assert line["forward_ms"] > 0


LONG = "word " * 400


def test_an_over_long_text_is_refused_unless_truncation_is_asked_for(minilm_api: Server) -> None:
    refused = minilm_api.post("/sim", {"target": "a", "texts": ["b", LONG]})
    assert refused.status == 422
    assert refused.json()["errors"][0]["pointer"] == "/texts/1"
    cut = minilm_api.post("/sim", {"target": "a", "texts": ["b", LONG], "parameters": {"truncate": True}})
    assert cut.status == 200
    assert cut.headers["x-truncated"] == "1"
    told = minilm_api.post("/predict", {"model": "minilm", "inputs": [LONG], "parameters": {"truncate": True}}).json()
    assert told["truncated"] == [0]


@pytest.mark.parametrize(
    "path, body, status, pointer",
    [
        ("/sim", {"target": "a", "texts": ["b", ""]}, 422, "/texts/1"),
        ("/sim", {"target": "", "texts": ["b"]}, 422, "/target"),
        ("/sim", {"target": "a", "texts": "b"}, 422, "/texts"),
        ("/sim", {"target": "a", "texts": ["b", 3]}, 422, "/texts/1"),
        ("/sim", {"target": "a"}, 422, "/texts"),
        ("/sim", {"target": "a", "texts": ["b"] * 10_000}, 422, "/texts"),
        ("/sim", {"target": "a", "texts": ["b" * 1_000_000]}, 422, "/texts/0"),
        ("/sim", {"target": "a", "texts": ["b"], "model": "nobody"}, 404, None),
        ("/sim", {"target": "a", "texts": ["b"], "model": "minilm@7"}, 404, None),
        ("/sim", {"target": "a", "texts": ["b"], "model": "minilm@canary"}, 404, None),
        ("/predict", {"model": "minilm", "inputs": ["b", ""]}, 422, "/inputs/1"),
        ("/predict", {"model": "minilm", "inputs": ""}, 422, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": {"text": "b"}}, 422, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": ["b"], "parameters": {"trunc": True}}, 422, "/parameters/trunc"),
        ("/predict", {"model": "minilm", "inputs": ["b"], "parameters": {"truncate": 1}}, 422, "/parameters/truncate"),
        ("/predict", {"model": 5, "inputs": ["b"]}, 422, "/model"),
        ("/predict", {"inputs": ["b"]}, 422, "/model"),
    ],
)
def test_bad_input_is_told_where(minilm_api: Server, path: str, body: Any, status: int, pointer: str | None) -> None:
    answer = minilm_api.post(path, body)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    if pointer is not None:
        assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_an_empty_list_of_inputs_gives_no_predictions(minilm_api: Server) -> None:
    assert minilm_api.post("/predict", {"model": "minilm", "inputs": []}).json()["predictions"] == []


def test_models_tell_what_is_loaded(minilm_api: Server) -> None:
    (model,) = minilm_api.get("/models").json()["models"]
    expected = {
        "name",
        "task",
        "version",
        "digest",
        "state",
        "precision",
        "precision_reason",
        "accuracy",
        "memory_bytes",
        "previous",
        "canary",
        "refused",
    }
    assert model.keys() >= expected
    assert (model["name"], model["version"], model["state"]) == ("minilm", "1", "serving")
    assert model["memory_bytes"] > 50e6
    whole = minilm_api.get("/models/minilm").json()
    assert whole["versions"][0]["timeline"][-1]["stage"] == "ready"
    assert minilm_api.get("/models/nobody").status == 404


def test_a_second_embedding_model_leaves_sim_as_it_was(tmp_path: Path, tiny_store: Path) -> None:
    with server(tmp_path, MODEL_API_EFS_ROOT=tiny_store) as api:
        for name in ("tiny", "second"):
            api.wait_for_model(name, state="serving")
        assert api.post("/sim", {"target": "a", "texts": ["b"]}).headers["x-model"] == "tiny"
        assert api.post("/sim", {"target": "a", "texts": ["b"], "model": "second"}).headers["x-model"] == "second"
