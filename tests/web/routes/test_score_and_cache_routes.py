"""/score and DELETE /cache as a client sees them."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from model_api.serving.text_scores import SCORES, score_pair
from tests.rigs.stand_in_service import StandInService, stand_in_app

KEY = "an-operator-key-for-tests"
TARGETS = ["the bridge opens on monday", "rain in the north"]
PREDICTIONS = ["the bridge opens monday", "sun in the south"]


@pytest.fixture
def served() -> tuple[StandInService, FlaskClient]:
    app, service = stand_in_app(operator_key=KEY, max_inputs=5, max_text_chars=200)
    return service, app.test_client()


@pytest.fixture
def client(served: tuple[StandInService, FlaskClient]) -> FlaskClient:
    return served[1]


def test_scores_per_item_and_their_means(client: FlaskClient) -> None:
    body = client.post("/score", json={"targets": TARGETS, "predictions": PREDICTIONS}).get_json()
    assert body["items"] == [score_pair(*pair) for pair in zip(TARGETS, PREDICTIONS, strict=True)]
    assert set(body) == {"scores", "items"}
    for name in SCORES:
        assert body["scores"][name] == pytest.approx(sum(item[name] for item in body["items"]) / 2)


def test_nothing_to_score(client: FlaskClient) -> None:
    body = client.post("/score", json={"targets": [], "predictions": []}).get_json()
    assert body == {"scores": dict.fromkeys(SCORES), "items": []}


def test_a_model_that_predicts_no_texts_is_named(client: FlaskClient) -> None:
    response = client.post("/score", json={"targets": TARGETS, "model": "minilm", "inputs": ["a", "b"]})
    assert response.status_code == 422
    assert response.get_json()["errors"][0]["pointer"] == "/model"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"targets": TARGETS}, ""),
        ({"targets": TARGETS, "predictions": PREDICTIONS, "model": "minilm"}, ""),
        ({"targets": TARGETS, "model": "minilm"}, ""),
        ({"targets": TARGETS, "predictions": PREDICTIONS, "inputs": ["a", "b"]}, ""),
        ({"targets": TARGETS, "predictions": PREDICTIONS[:1]}, "/predictions"),
        ({"targets": TARGETS, "model": "minilm", "inputs": ["a"]}, "/inputs"),
        ({"targets": TARGETS, "predictions": PREDICTIONS, "parameters": {"a": 1}}, "/parameters"),
        ({"targets": [1, "a"], "predictions": PREDICTIONS}, "/targets/0"),
        ({"targets": ["a"] * 6, "predictions": ["a"] * 6}, "/targets"),
        ({"targets": ["a", "b" * 201], "predictions": PREDICTIONS}, "/targets/1"),
        ({"targets": TARGETS, "predictions": ["a", "b" * 201]}, "/predictions/1"),
        ({"targets": TARGETS, "predictions": PREDICTIONS, "more": 1}, "/more"),
    ],
    ids=str,
)
def test_bad_bodies(client: FlaskClient, body: dict[str, Any], pointer: str) -> None:
    response = client.post("/score", json=body)
    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    assert response.get_json()["errors"][0]["pointer"] == pointer


def test_the_operator_clears_one_model_s_answers_or_all(served: tuple[StandInService, FlaskClient]) -> None:
    service, client = served
    headers = {"Authorization": f"Bearer {KEY}"}
    assert client.delete("/cache?model=minilm", headers=headers).get_json() == {"removed": 2}
    assert client.delete("/cache", headers=headers).status_code == 200
    assert service.cleared == ["minilm", None]
    assert client.delete("/cache?model=../x", headers=headers).status_code == 404
    misspelt = client.delete("/cache?modle=minilm", headers=headers)
    assert (misspelt.status_code, misspelt.get_json()["errors"][0]["pointer"]) == (422, "/modle")


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Basic x", f"Bearer {KEY}x", "Bearer é"], ids=repr)
def test_nobody_else_does(served: tuple[StandInService, FlaskClient], sent: str | None) -> None:
    service, client = served
    response = client.delete("/cache", headers={} if sent is None else {"Authorization": sent.encode("utf-8")})
    assert (response.status_code, response.content_type) == (401, "application/problem+json")
    assert service.cleared == []


def test_without_a_key_in_the_settings_nobody_may() -> None:
    app, service = stand_in_app()
    response = app.test_client().delete("/cache", headers={"Authorization": "Bearer None"})
    assert response.status_code == 401
    assert service.cleared == []
