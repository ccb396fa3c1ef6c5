"""Who is let in, at the edge of the real application over a stand-in service."""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from model_api.repository.keys import SCOPES
from model_api.web.security.gate import Gate
from tests.rigs.keyed import KeyStore, bearer
from tests.rigs.stand_in_service import stand_in_app

BODY = {"model": "minilm", "inputs": ["ab"]}
OPERATOR = "an-operator-key-for-tests"


class Rig:
    """An application and the keys of its store."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.keys = KeyStore(folder / "efs")
        settings = {"auth": "required", **settings}
        app, self.service = stand_in_app(efs_root=folder / "efs", local_store=folder / "store", **settings)
        self.gate: Gate = app.extensions["model_api_gate"]
        self.client: FlaskClient = app.test_client()

    def create(self, *scopes: str, **more: Any) -> str:
        token = self.keys.create(*scopes, **more)
        self.gate.ring.look()
        return token

    def predict(self, **headers: str) -> TestResponse:
        return self.client.post("/predict", json=BODY, headers={k.replace("_", "-"): v for k, v in headers.items()})


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def refused(response: TestResponse, status: int, slug: str) -> str:
    """The detail of the problem that it must be."""
    document = json.loads(response.data)
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert document["type"] == f"/problems/{slug}"
    if status == 401:
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="model-api"')
    return str(document["detail"])


def test_every_way_to_send_a_key(rig: Rig) -> None:
    token = rig.create("predict")
    key_id, secret = token[:15], token[16:]
    for headers in (
        {"Authorization": f"Bearer {token}"},
        {"Authorization": f"bearer   {token} "},
        {"X_Api_Key": token},
        {"Authorization": basic("anybody", token)},
        {"Authorization": basic(key_id, secret)},
        {"Authorization": "Bearer something-else", "X_Api_Key": token},
    ):
        assert rig.predict(**headers).status_code == 200, headers
    assert {context.caller for _, context in rig.service.calls} == {key_id}  # whose share of the queue it is


def test_no_key_and_wrong_keys(rig: Rig) -> None:
    token = rig.create("predict")
    assert "predict" in refused(rig.predict(), 401, "unauthenticated")
    last = "A" if token[-1] != "A" else "B"
    wrong = [
        token[:-1] + last,
        token[:-1],
        token + "A",
        "mk_",
        "mk_x_y",
        f"mk_{'0' * 12}_{token[16:]}",
        "sk-nothing",
        "",
    ]
    wrong += [token.upper(), token.replace("mk_", "MK_", 1), "null", "é" * 40, token[:15] + "_" + "0" * 64]
    wrong += [hashlib.sha256(token[16:].encode()).hexdigest(), f"{token[:15]}_{hashlib.sha256(b'').hexdigest()}"]
    for text in wrong:
        for headers in ({"Authorization": f"Bearer {text}".encode()}, {"X-Api-Key": text.encode()}):
            response = rig.client.post("/predict", json=BODY, headers=headers)
            refused(response, 401, "unauthenticated")
            assert len(text) < 5 or text.encode() not in response.data
    for header in (f"Token {token}", "Basic", "Basic ???", basic("a", ""), "Basic " + "/" * 20, "Digest x=y", token):
        refused(rig.predict(Authorization=header), 401, "unauthenticated")
    assert rig.service.calls == []


def test_a_script_in_a_page_makes_no_browser_ask_for_a_password(rig: Rig) -> None:
    assert "Basic" in rig.predict().headers["WWW-Authenticate"]
    assert "Basic" not in rig.predict(Sec_Fetch_Mode="cors").headers["WWW-Authenticate"]


def test_a_scope_is_for_its_routes_alone(rig: Rig) -> None:
    asked = {
        "predict": ("POST", "/predict"),
        "jobs": ("POST", "/uploads"),
        "status": ("GET", "/metrics"),
        "operate": ("DELETE", "/cache"),
    }
    for scope in SCOPES:
        token = rig.create(scope)
        for needed, (method, path) in asked.items():
            response = rig.client.open(
                path, method=method, json=BODY if method == "POST" else None, headers=bearer(token)
            )
            if needed == scope:
                assert response.status_code not in (401, 403), (scope, path)
            else:
                detail = refused(response, 403, "forbidden")
                assert needed in detail
                assert token[:15] in detail


def test_open_routes_need_nothing_and_look_at_nothing(rig: Rig) -> None:
    for path in ("/", "/healthz", "/readyz", "/openapi.json", "/docs", "/problems/forbidden"):
        assert rig.client.get(path, headers=bearer("mk_nonsense")).status_code == 200, path
    assert rig.client.options("/predict").status_code == 204
    assert rig.client.get("/nowhere").status_code == 404
    assert rig.client.get("/predict").status_code == 405
    assert rig.client.put("/uploads/" + "0" * 64).status_code in (403, 503)  # its address is its key


def test_revoked_and_expired(rig: Rig) -> None:
    token, other = rig.create("predict"), rig.create("predict")
    assert rig.predict(**bearer(token)).status_code == 200
    rig.keys.revoke(token)
    rig.gate.ring.look()
    assert "revoked" in refused(rig.predict(**bearer(token)), 401, "unauthenticated")
    assert rig.predict(**bearer(other)).status_code == 200
    short = rig.create("predict", expires=time.time() + 3600)
    assert rig.predict(**bearer(short)).status_code == 200
    object.__setattr__(rig.gate.ring, "_clock", lambda: time.time() + 3601)
    assert "expired" in refused(rig.predict(**bearer(short)), 401, "unauthenticated")
    wrong = short[:-4] + "0000"  # who doesn't know the secret hears nothing of the key
    assert refused(rig.predict(**bearer(wrong)), 401, "unauthenticated") == "no such key"


def test_a_key_for_some_models(rig: Rig) -> None:
    mine, others = rig.create("predict", models=("minilm",)), rig.create("predict", "jobs", models=("other",))
    assert rig.predict(**bearer(mine)).status_code == 200
    detail = refused(rig.predict(**bearer(others)), 403, "forbidden")
    assert "minilm" in detail
    assert "other" in detail
    for path, body in (
        ("/predict", {**BODY, "model": "minilm@1"}),
        ("/sim", {"target": "a", "texts": ["b"]}),
        ("/rerank", {"query": "a", "texts": ["b"]}),
        ("/v1/embeddings", {"model": "minilm", "input": "a"}),
        ("/jobs", {"kind": "daily", "pipeline": "p"}),
    ):
        assert rig.client.post(path, json=body, headers=bearer(others)).status_code == 403, path


def test_where_calling_is_open_only_operators_need_a_key(tmp_path: Path) -> None:
    rig = Rig(tmp_path, auth="open", operator_key=OPERATOR)
    assert rig.predict().status_code == 200
    assert rig.predict(Authorization="Bearer sk-whatever-a-client-sends").status_code == 200
    assert rig.predict(Authorization="Nonsense").status_code == 200
    assert rig.client.get("/metrics").status_code == 200
    refused(rig.client.delete("/cache"), 401, "unauthenticated")
    assert rig.client.delete("/cache", headers=bearer(OPERATOR)).status_code == 200
    refused(rig.client.delete("/cache", headers=bearer(rig.create("predict"))), 403, "forbidden")
    assert rig.client.delete("/cache", headers=bearer(rig.create("operate"))).status_code == 200
    # A key that is sent means what it says.
    token = rig.create("predict")
    assert rig.predict(**bearer(token)).status_code == 200
    assert rig.service.calls[-1][1].caller == token[:15]
    rig.keys.revoke(token)
    rig.gate.ring.look()
    refused(rig.predict(**bearer(token)), 401, "unauthenticated")


def test_the_operator_s_key_of_the_settings_is_for_operating(tmp_path: Path) -> None:
    rig = Rig(tmp_path, operator_key=OPERATOR)
    assert rig.client.delete("/cache", headers=bearer(OPERATOR)).status_code == 200
    assert rig.client.delete("/cache", headers={"X-Api-Key": OPERATOR}).status_code == 200
    refused(rig.predict(**bearer(OPERATOR)), 403, "forbidden")
    refused(rig.client.delete("/cache", headers=bearer(OPERATOR + "x")), 401, "unauthenticated")


def test_the_first_key_may_do_everything_until_it_is_revoked(tmp_path: Path) -> None:
    secret = "s" * 43
    rig = Rig(tmp_path, first_key="mk_first:" + hashlib.sha256(secret.encode()).hexdigest())
    token = f"mk_first_{secret}"
    assert rig.predict(**bearer(token)).status_code == 200  # before the file was looked at, and without one
    rig.gate.ring.look()
    assert rig.client.delete("/cache", headers=bearer(token)).status_code == 200
    rig.keys.revoke(token)
    rig.gate.ring.look()
    refused(rig.predict(**bearer(token)), 401, "unauthenticated")


def test_without_any_keys_everybody_is_refused(rig: Rig) -> None:
    token = "mk_abcdef012345_" + "x" * 43
    detail = refused(rig.predict(**bearer(token)), 503, "keys-unknown")
    assert "not looked at yet" in detail
    rig.gate.ring.look()
    assert "no keys.json" in refused(rig.predict(**bearer(token)), 503, "keys-unknown")
    refused(rig.predict(), 401, "unauthenticated")
    assert rig.client.get("/readyz").get_json()["keys"] == "there is no keys.json"


def test_what_asks_past_the_proxies_on_this_machine_may_see_how_it_is(tmp_path: Path) -> None:
    rig = Rig(tmp_path, proxy_hops=2)
    assert rig.client.get("/metrics").status_code == 200
    assert rig.client.get("/models").status_code == 200
    refused(rig.predict(), 401, "unauthenticated")
    refused(rig.client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}), 401, "unauthenticated")
    outside = rig.client.get("/metrics", environ_base={"REMOTE_ADDR": "192.0.2.7"})
    refused(outside, 401, "unauthenticated")
    refused(Rig(tmp_path / "direct").client.get("/metrics"), 401, "unauthenticated")


def test_the_setting_opens_what_it_names(tmp_path: Path) -> None:
    rig = Rig(tmp_path, public=frozenset({"metrics"}))
    assert rig.client.get("/metrics").status_code == 200
    refused(rig.client.get("/models"), 401, "unauthenticated")


def test_other_people_s_clients_hear_it_in_their_words(rig: Rig) -> None:
    answer = rig.client.post("/v1/embeddings", json={"model": "minilm", "input": "a"})
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (401, "authentication_error")
    token = rig.create("jobs")
    answer = rig.client.post("/v1/embeddings", json={"model": "minilm", "input": "a"}, headers=bearer(token))
    assert (answer.status_code, answer.get_json()["error"]["type"]) == (403, "permission_error")


def test_the_document_says_which_routes_want_a_key(rig: Rig, tmp_path: Path) -> None:
    paths = rig.client.get("/openapi.json").get_json()["paths"]
    assert {"bearer": []} in paths["/predict"]["post"]["security"]
    assert {} not in paths["/predict"]["post"]["security"]
    assert "security" not in paths["/healthz"]["get"]
    laptop = Rig(tmp_path / "laptop", auth="open").client.get("/openapi.json").get_json()["paths"]
    assert {} in laptop["/predict"]["post"]["security"]
    assert {} not in laptop["/cache"]["delete"]["security"]
