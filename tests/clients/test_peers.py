"""Other people's clients, unmodified: what they get is what /predict gives, and what they raise is their own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.peers import LABELS, serving_all, told_by
from tests.clients.peers_driver import TEXTS
from tests.rigs.server import Server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving_all(tmp_path_factory.mktemp("peers")) as running:
        yield running


def predicted(api: Server, model: str, inputs: Any, **parameters: Any) -> Any:
    answer = api.post("/predict", {"model": model, "inputs": inputs, "parameters": parameters})
    assert answer.status == 200, answer.body
    return answer.json()["predictions"]


def same(found: Any, wanted: Any) -> bool:
    return np.array_equal(np.array(found, np.float32), np.array(wanted, np.float32))


def ranked(api: Server) -> Any:
    return api.post("/rerank", {"model": "ranker", "query": "a train", "texts": TEXTS}).json()["scores"]


@pytest.fixture(scope="module")
def triton(api: Server) -> dict[str, Any]:
    return told_by("triton", api)


def test_triton_s_client_knows_what_is_served(triton: dict[str, Any]) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, [True, True, False])
    assert triton["server"]["name"] == "model-api"
    assert [one["name"] for one in triton["metadata"]["outputs"]] == ["label", "score"]
    assert {one["name"]: one["state"] for one in triton["index"]} == dict.fromkeys(
        ("tiny", "mood", "ranker", "summary"), "READY"
    )


def test_triton_s_client_gets_predictions(api: Server, triton: dict[str, Any]) -> None:
    plain = predicted(api, "tiny", TEXTS)
    for way in ("binary", "json", "gzip"):
        assert same(triton[way], plain), way
    assert same(triton["normalized"], predicted(api, "tiny", TEXTS, normalize=True))
    told = triton["response"]
    assert (told["model_name"], told["model_version"], told["id"]) == ("tiny", "1", "r7")
    moods = predicted(api, "mood", TEXTS)
    assert triton["labels"] == [one["label"] for one in moods]
    assert same(triton["scores"], [one["score"] for one in moods])
    assert same(triton["ranked"], ranked(api))


@pytest.mark.parametrize(
    ("which", "status", "said"),
    [
        ("model", "404", "nobody"),
        ("dtype", "400", "BYTES is wanted, not INT32"),
        ("float", "400", "BYTES is wanted, not FP32"),
        ("length", "400", "goes beyond its end"),
        ("short", "400", "bytes are left behind the JSON, not"),
        ("shape", "400", "the 3 elements of its shape"),
        ("empty", "400", "/inputs/0/data/1"),
        ("output", "400", "there are embedding"),
        ("two", "400", "2 are given"),
        ("parameter", "400", "nonsense"),
        ("sequence", "400", "sequences"),
        ("utf8", "400", "element 0 is not UTF-8"),
    ],
)
def test_triton_s_client_raises_its_own_error(triton: dict[str, Any], which: str, status: str, said: str) -> None:
    found = triton["refused"][which]
    assert (found["class"], found["status"]) == ("InferenceServerException", status)
    assert said in found["message"]


def test_hugging_face_s_inference_client(api: Server) -> None:
    found = told_by("hugging_face", api, Path(sys.executable))
    assert same(found["vectors"], predicted(api, "tiny", TEXTS))
    assert same(found["one"], predicted(api, "tiny", TEXTS[0], normalize=True)[0])
    sims = api.post("/sim", {"model": "tiny", "target": TEXTS[0], "texts": TEXTS}).json()["context"]["sims"]
    assert same(found["similar"], sims)
    assert same(found["ranked"], ranked(api))
    labels = predicted(api, "mood", TEXTS[0], all_labels=True)[0]["labels"]
    assert found["labels"] == [[one["label"], pytest.approx(one["score"])] for one in labels]
    assert sorted(label for label, _ in found["labels"]) == sorted(LABELS)
    assert found["best"] == [labels[0]["label"]]
    assert found["summary"] == predicted(api, "summary", " ".join(TEXTS), max_new_tokens=8)[0]["text"]
    refused = found["refused"]
    assert {name: one["class"] for name, one in refused.items()} == {
        "model": "HfHubHTTPError",
        "empty": "BadRequestError",
        "tokens": "BadRequestError",
        "left": "BadRequestError",
        "parameter": "BadRequestError",
    }
    assert "nobody" in refused["model"]["message"]
    assert "token ids" in refused["tokens"]["message"]


def test_the_embedding_classes_of_langchain_and_llama_index(api: Server) -> None:
    found = told_by("embedding_classes", api)
    vectors = predicted(api, "tiny", TEXTS, normalize=True)
    for way in ("langchain", "langchain_async", "llama_openai", "llama_tei"):
        assert np.allclose(found[way], vectors, atol=1e-6), way
    for way in ("langchain_query", "llama_tei_query", "llama_tei_async"):
        assert np.allclose(found[way], vectors[0], atol=1e-6), way


def test_sagemaker_s_runtime_client(api: Server) -> None:
    found = told_by("sagemaker", api)
    plain = predicted(api, "tiny", TEXTS)
    for form in ("instances", "csv"):
        document, variant = found[form]
        assert same(document["predictions"], plain)
        assert variant == "1"
    articles, _ = found["articles"]
    assert articles == [one["text"] for one in predicted(api, "summary", TEXTS, max_new_tokens=8)]
    refused = found["refused"]
    assert refused["empty"] == ["ModelError", 422, "/problems/invalid-input"]
    assert refused["form"] == ["ModelError", 422, "/problems/invalid-input"]
    assert refused["model"][0] == refused["type"][0] == "ValidationError"
    assert "nobody" in refused["model"][1]


def test_mlflow_s_scoring_client(api: Server) -> None:
    found = told_by("mlflow", api)
    plain = predicted(api, "tiny", TEXTS)
    for form in ("frame", "array"):
        assert same(found[form], plain), form
    assert same(found["params"], predicted(api, "tiny", TEXTS, normalize=True))
    assert found["version"] == "1"
    for name, said in (("empty", "/dataframe_split/data/0"), ("numbers", "string"), ("parameter", "nonsense")):
        assert "error code 400" in found["refused"][name]["message"]
        assert "BAD_REQUEST" in found["refused"][name]["message"]
        assert said in found["refused"][name]["message"]


def test_mlflow_s_five_forms_over_plain_http(api: Server) -> None:
    plain = predicted(api, "tiny", TEXTS)
    forms: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": ["text"], "index": [0, 1], "data": [[text] for text in TEXTS]}},
        {"dataframe_records": [{"text": text} for text in TEXTS]},
        {"instances": TEXTS},
        {"instances": [{"text": text} for text in TEXTS]},
        {"inputs": TEXTS},
        {"inputs": {"text": TEXTS}},
        {"inputs": {"text": [[text] for text in TEXTS]}},
    ]
    for body in forms:
        answer = api.post("/invocations", body)
        assert answer.status == 200, answer.body
        assert same(answer.json()["predictions"], plain), body
    one = api.post("/invocations", {"instances": [TEXTS[0]]}, **{"X-Model": "mood"}).json()["predictions"]
    assert one == predicted(api, "mood", [TEXTS[0]])


def test_the_earlier_summarizer_s_routes(api: Server) -> None:
    text = " ".join(TEXTS)
    one = predicted(api, "summary", text)[0]["text"]
    wide = [row["text"] for row in predicted(api, "summary", TEXTS, num_beams=4)]
    for path, body, wanted in (
        ("/article/summarize", {"article": {"article": text}, "config": {}}, one),
        ("/article/summarize", {"article": text}, one),
        ("/online-predict", {"article": text, "num_beans": 1}, one),
        ("/article/summarize_batch", {"articles": {"articles": TEXTS}, "config": {"num_beans": 4}}, wide),
        ("/article/summarize_batch", {"articles": TEXTS, "num_beans": 4}, wide),
        ("/batch-predict", {"articles": TEXTS, "num_beans": 4}, wide),
        ("/batch-predict", {"articles": []}, []),
    ):
        answer = api.post(path, body)
        assert (answer.status, json.loads(answer.body)) == (200, wanted), path
    pairs = {"pairs": {"articles": TEXTS, "targets": TEXTS}, "config": {}}
    scores = api.post("/model/score", pairs).json()
    assert list(scores) == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert scores == api.post("/model/score", pairs["pairs"]).json()
    bad = api.post("/online-predict", {"article": text, "num_beams": "many"})
    assert (bad.status, bad.json()["detail"][0]["loc"]) == (422, ["body", "config", "num_beams"])
    assert api.post("/article/summarize", {"article": ""}).status == 422
    assert "detail" in api.post("/article/summarize", {"article": text}, **{"X-Model": "nobody"}).json()
