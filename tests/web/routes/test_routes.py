"""The routes as a client sees them: bodies, headers, CORS, HEAD and OPTIONS."""

import json
import re
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_api.instance.polling import Mount
from tests.rigs.stand_in_service import DIGEST, StandInService, share, stand_in_app

GETS = ["/", "/models", "/models/minilm", "/healthz", "/readyz", "/mount_check", "/metrics", "/openapi.json", "/docs"]
POSTS = ["/sim", "/predict"]
SIM = {"target": "abc", "texts": ["ab", "é漢字😀"]}


@pytest.fixture
def service_and_client() -> tuple[StandInService, FlaskClient]:
    app, service = stand_in_app(proxy_hops=1, request_timeout_s=7)
    return service, app.test_client()


@pytest.fixture
def client(service_and_client: tuple[StandInService, FlaskClient]) -> FlaskClient:
    return service_and_client[1]


@pytest.fixture
def service(service_and_client: tuple[StandInService, FlaskClient]) -> StandInService:
    return service_and_client[0]


def test_sim_answers_exactly_its_contract(client: FlaskClient) -> None:
    response = client.post("/sim", json=SIM)
    assert response.status_code == 200
    assert response.content_type == "application/json; charset=utf-8"  # old PowerShell reads Latin-1 without
    assert json.loads(response.data) == {
        "type": "sentence similarity",
        "context": {**SIM, "sims": [share("abc", "ab"), share("abc", "é漢字😀")]},
    }
    assert "é漢字😀".encode() in response.data  # not escaped


def test_sim_of_no_texts(client: FlaskClient) -> None:
    assert client.post("/sim", json={"target": "a", "texts": []}).get_json()["context"]["sims"] == []


@pytest.mark.parametrize("model", [None, "minilm", "minilm@1"])
def test_sim_with_a_model(client: FlaskClient, model: str | None) -> None:
    assert client.post("/sim", json={**SIM, "model": model}).headers["X-Model"] == "minilm"


def test_sim_tells_truncated_texts_in_a_header(client: FlaskClient, service: StandInService) -> None:
    assert "X-Truncated" not in client.post("/sim", json=SIM).headers
    service.truncated = (3, 0, -1)
    assert client.post("/sim", json=SIM).headers["X-Truncated"] == "target,0,3"


def test_predict_answers_a_prediction_per_input(client: FlaskClient) -> None:
    body = client.post("/predict", json={"model": "minilm", "inputs": ["aab", "c"]}).get_json()
    assert body == {
        "model": "minilm",
        "version": "1",
        "digest": DIGEST,
        "task": "embedding",
        "predictions": [[3.0, 2.0], [1.0, 1.0]],
        "usage": {"tokens": 4},
    }


def test_predict_takes_one_input_and_answers_a_list(client: FlaskClient) -> None:
    assert client.post("/predict", json={"model": "minilm", "inputs": "aab"}).get_json()["predictions"] == [[3.0, 2.0]]
    assert client.post("/predict", json={"model": "minilm", "inputs": []}).get_json()["predictions"] == []


def test_predict_tells_truncated_inputs(client: FlaskClient, service: StandInService) -> None:
    service.truncated = (1,)
    assert client.post("/predict", json={"model": "minilm", "inputs": ["a", "b"]}).get_json()["truncated"] == [1]


@pytest.mark.parametrize("path", POSTS)
def test_answers_of_a_model_name_the_weights(client: FlaskClient, path: str) -> None:
    body = SIM if path == "/sim" else {"model": "minilm", "inputs": "a"}
    headers = client.post(path, json=body).headers
    assert (headers["X-Model"], headers["X-Model-Version"], headers["X-Model-Digest"]) == ("minilm", "1", DIGEST)
    assert headers["X-Model-Precision"] == "float32"
    pattern = r"queue;dur=\d+\.\d, forward;dur=\d+\.\d, total;dur=\d+\.\d"
    assert re.fullmatch(pattern, headers["Server-Timing"])
    assert "Age" not in headers


def test_a_cached_answer_has_an_age(client: FlaskClient, service: StandInService) -> None:
    service.age_s = 12
    assert client.post("/sim", json=SIM).headers["Age"] == "12"


@pytest.mark.parametrize("given", ["abc-1.2_X", "x" * 128])
def test_a_harmless_request_id_is_kept(client: FlaskClient, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "é", '{"a"}', "a,b"])
def test_other_request_ids_are_replaced(client: FlaskClient, given: str) -> None:
    got = client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{24}", got)


def test_the_service_gets_the_context(client: FlaskClient, service: StandInService) -> None:
    before = time.monotonic()
    client.post("/sim", json=SIM, headers={"X-Forwarded-For": "6.6.6.6, 10.1.2.3", "Cache-Control": "no-cache"})
    client.post("/sim", json=SIM, headers={"X-Canary-Key": "user 7"})
    (_, first), (_, second) = service.calls
    assert before + 6 < first.deadline <= time.monotonic() + 7
    assert (first.caller, first.canary_key, first.no_cache) == ("10.1.2.3", "10.1.2.3", True)
    assert (second.caller, second.canary_key, second.no_cache) == ("127.0.0.1", "user 7", False)
    assert first.has_left() is False


@pytest.mark.parametrize("path", GETS)
def test_head_has_the_headers_of_get(client: FlaskClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Type"] == got.headers["Content-Type"]


@pytest.mark.parametrize("path", [*GETS, *POSTS])
def test_options_and_preflight(client: FlaskClient, path: str) -> None:
    method = "POST" if path in POSTS else "GET"
    asked = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, x-canary-key",
    }
    response = client.options(path, headers=asked)
    assert (response.status_code, response.data) == (204, b"")
    assert method in response.headers["Allow"].split(", ")
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("content-type", "x-canary-key", "x-request-id"))
    assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", [*GETS, *POSTS, "/nope"])
def test_cors_is_open_on_every_answer(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["Access-Control-Allow-Origin"] == "*"
    exposed = headers["Access-Control-Expose-Headers"].split(", ")
    assert {"X-Request-Id", "X-Model", "X-Model-Version", "X-Model-Precision", "Server-Timing"} <= set(exposed)
    assert len(headers.getlist("Access-Control-Allow-Origin")) == 1


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "text/html;q=0", "text/html;q=0.5, application/json"]
)
def test_index_as_json(client: FlaskClient, accept: str | None) -> None:
    response = client.get("/", headers={"Accept": accept} if accept else {})
    assert response.get_json() == {"type": "index", "context": {"message": "Success!"}}
    assert response.headers["Vary"] == "Accept"


@pytest.mark.parametrize("accept", ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"])
def test_index_as_a_page(client: FlaskClient, accept: str) -> None:
    response = client.get("/", headers={"Accept": accept})
    assert response.mimetype == "text/html"
    assert response.headers["Vary"] == "Accept"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    for link in re.findall(r'href="([^"]+)"', response.text):
        with client.get("/" + link) as linked:
            assert linked.status_code == 200


def test_models(client: FlaskClient) -> None:
    (model,) = client.get("/models").get_json()["models"]
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
    assert set(model) == expected
    assert client.get("/models/minilm").get_json()["versions"][0]["version"] == "1"


def test_health_and_readiness(client: FlaskClient, service: StandInService) -> None:
    assert client.get("/readyz").get_json() == {"ready": True, "draining": False, "models": {"minilm": "serving 1"}}
    service.ready = False
    assert client.get("/healthz").get_json() == {"status": "alive"}
    unready = client.get("/readyz")
    assert (unready.status_code, unready.mimetype) == (503, "application/problem+json")
    assert unready.headers["Retry-After"] == "5"
    document: Any = json.loads(unready.data)
    assert (document["ready"], document["models"]) == (False, {"minilm": "loading 1"})


def test_mount_check(client: FlaskClient, service: StandInService) -> None:
    assert client.get("/mount_check").get_json() == {"mounted": True, "detail": "/efs answered in 1 ms", "age_s": 0.5}
    service.seen = Mount(False, "no answer for 12 s", 12.0)
    response = client.get("/mount_check")
    assert (response.status_code, response.mimetype) == (503, "application/problem+json")
    document: Any = json.loads(response.data)
    assert (document["mounted"], document["detail"], document["age_s"]) == (False, "no answer for 12 s", 12.0)


def test_a_header_does_not_grow_with_the_body(client: FlaskClient, service: StandInService) -> None:
    service.truncated = [-1, *range(900)]
    body = {"target": "a", "texts": ["b"] * 900, "parameters": {"truncate": True}}
    response = client.post("/sim", json=body)
    header = response.headers["X-Truncated"]
    assert header.startswith("target,0,1,2,")
    assert header.endswith(",98,and 801 more")
    assert sum(len(name) + len(value) for name, value in response.headers) < 2000
    assert "truncated" not in response.get_json()["context"]
    listed = client.post("/sim", json={**body, "list_truncated": True}).get_json()["context"]
    assert listed["truncated"] == ["target", *range(900)]
