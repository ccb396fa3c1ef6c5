"""The HTTP contract on the real application with a real model: whatever is sent, an answer that is described."""

import json
from typing import Any

import jsonschema
import pytest

from tests.rigs.server import Server
from tests.web.server.test_worker import exchange, problem

pytestmark = pytest.mark.integration
LONG = "word " * 2000


def post(
    api: Server, path: str, body: bytes, content_type: str = "application/json"
) -> tuple[int, dict[str, str], bytes]:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return exchange(api.port, head.encode(), body, shut=False)


def described(api: Server, schema: str, value: Any) -> None:
    """Whether `value` is what /openapi.json says of `schema`."""
    components = api.get("/openapi.json").json()["components"]
    document = {"$ref": f"#/components/schemas/{schema}", "components": components}
    jsonschema.Draft202012Validator(document).validate(value)


@pytest.mark.parametrize(
    ("path", "body", "status", "pointer"),
    [
        ("/sim", b"{", 400, None),
        ("/sim", b'{"target": "\\udc00", "texts": []}', 400, None),
        ("/sim", b'{"target": "a", "texts": ["b", ""]}', 422, "/texts/1"),
        ("/sim", b'{"target": "", "texts": ["b"]}', 422, "/target"),
        ("/sim", b'{"target": "a", "texts": ["b", "\\u200b\\u200d"]}', 422, "/texts/1"),
        ("/sim", b'{"target": "a", "texts": ' + json.dumps(["b"] * 10_000).encode() + b"}", 422, "/texts"),
        ("/sim", b'{"target": "a", "texts": ["b", "' + b"x" * 1_000_000 + b'"]}', 422, "/texts/1"),
        ("/sim", json.dumps({"target": LONG, "texts": ["b"]}).encode(), 422, "/target"),
        ("/sim", json.dumps({"target": "a", "texts": ["b", LONG]}).encode(), 422, "/texts/1"),
        ("/sim", b'{"target": "a", "texts": ["b"], "parameters": {"nope": 1}}', 422, "/parameters/nope"),
        ("/sim", b'{"target": "a", "texts": ["b"], "model": "nope"}', 404, None),
        ("/sim", b'{"target": "a", "texts": ["b"], "model": "minilm@77"}', 404, None),
        ("/sim", b'{"target": "a", "texts": ["b"], "model": "minilm@"}', 404, None),
        ("/predict", b'{"model": "minilm", "inputs": ""}', 422, "/inputs"),
        ("/predict", b'{"model": "minilm", "inputs": 5}', 422, "/inputs"),
        ("/predict", b'{"model": "minilm", "inputs": ["a", null]}', 422, "/inputs/1"),
        ("/predict", b'{"model": "minilm", "inputs": ["a", ["b"]]}', 422, "/inputs/1"),
        (
            "/predict",
            b'{"model": "minilm", "inputs": "a", "parameters": {"truncate": "yes"}}',
            422,
            "/parameters/truncate",
        ),
    ],
)
def test_bad_bodies(minilm_api: Server, path: str, body: bytes, status: int, pointer: str | None) -> None:
    answer = post(minilm_api, path, body)
    document = problem(answer, status)
    described(minilm_api, "Problem", document)
    assert len(answer[2]) < 2000
    if pointer is not None:
        assert pointer in [place["pointer"] for place in document["errors"]]


def test_answers_are_as_described(minilm_api: Server) -> None:
    described(minilm_api, "ModelList", minilm_api.get("/models").json())
    described(minilm_api, "ModelDetails", minilm_api.get("/models/minilm").json())
    described(minilm_api, "ReadinessState", minilm_api.get("/readyz").json())
    described(minilm_api, "MountState", minilm_api.get("/mount_check").json())
    schemas = minilm_api.get("/openapi.json").json()["components"]["schemas"]
    for path, body, answer in (("/sim", "SimBody", "SimAnswer"), ("/predict", "PredictBody", "PredictAnswer")):
        for example in schemas[body]["examples"]:
            told = minilm_api.post(path, example)
            assert told.status == 200
            described(minilm_api, answer, told.json())


@pytest.mark.parametrize(
    "text",
    ["é漢字😀", "\x00", "\u202eabc", "a\u0301", " ", "\n\t", "\u200b", "𝔘𝔫𝔦", "x" * 300, "<b>", '"\\', "\ufeff"],
)
def test_any_text_is_answered_or_named(minilm_api: Server, text: str) -> None:
    status, _, body = post(minilm_api, "/sim", json.dumps({"target": "a", "texts": ["b", text]}).encode())
    document = json.loads(body)
    if status == 200:
        assert document["context"]["texts"] == ["b", text]
        assert all(-1.001 <= sim <= 1.001 for sim in document["context"]["sims"])
    else:
        assert (status, document["errors"][0]["pointer"]) == (422, "/texts/1")


def test_as_many_texts_as_the_limit_says_are_compared(minilm_api: Server) -> None:
    answer = minilm_api.post("/sim", {"target": "a", "texts": ["b"] * 1000})
    assert (answer.status, len(answer.json()["context"]["sims"])) == (200, 1000)
    refused = minilm_api.post("/sim", {"target": "a", "texts": ["b"] * 1001})
    assert (refused.status, refused.json()["detail"]) == (422, "1001 texts, at most 1000 are accepted")
    predicted = minilm_api.post("/predict", {"model": "minilm", "inputs": ["b"] * 1001})
    assert (predicted.status, predicted.json()["errors"][0]["pointer"]) == (422, "/inputs")


@pytest.mark.parametrize("header", [b"SCRIPT_NAME: /models", b"PATH_INFO: /models"])
def test_no_header_says_which_path_was_asked(minilm_api: Server, header: bytes) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n"
    status, _, body = exchange(minilm_api.port, request, shut=False)
    assert (status, json.loads(body)) == (200, {"status": "alive"})


def test_truncation_is_told(minilm_api: Server) -> None:
    cut = {"truncate": True}
    answer = minilm_api.post("/sim", {"target": LONG, "texts": ["a", LONG], "parameters": cut})
    assert (answer.status, answer.headers["x-truncated"]) == (200, "target,1")
    predicted = minilm_api.post("/predict", {"model": "minilm", "inputs": ["a", LONG], "parameters": cut})
    assert predicted.json()["truncated"] == [1]
