"""Every error becomes a problem document that tells what its type allows, and nothing else."""

import inspect
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from model_api import errors
from model_api.web import problems
from tests.rigs.project import ROOT
from tests.rigs.stand_in_service import StandInService, stand_in_app

JSON_TYPE = "application/json"
SIM = {"target": "abc", "texts": ["ab"]}
# Raised by commands, the publisher and the model side only; nothing of them passes through a route.
NEVER_IN_A_REQUEST = {
    errors.Refused,
    errors.RefsConflict,
    errors.StoreFull,
    errors.LoadFailed,
    errors.ProbeFailed,
    errors.SettingsError,
    errors.LeaseLost,
}


@pytest.fixture
def service_and_client() -> tuple[StandInService, FlaskClient]:
    app, service = stand_in_app(max_body_bytes=4096)
    return service, app.test_client()


@pytest.fixture
def client(service_and_client: tuple[StandInService, FlaskClient]) -> FlaskClient:
    return service_and_client[1]


def problem_of(response: TestResponse, status: int) -> dict[str, Any]:
    """The checked problem document of `response`."""
    assert response.status_code == status, response.data
    assert response.mimetype == "application/problem+json"
    document: dict[str, Any] = json.loads(response.data)
    assert document["status"] == status
    assert document["type"].startswith("/problems/")
    assert document["title"]
    assert document["detail"]
    assert document["instance"].startswith("/")
    assert document["request_id"] == response.headers["X-Request-Id"]
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    return document


def error_types() -> list[type[errors.ModelApiError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ModelApiError) and kind.__module__ == errors.__name__
    ]


def test_every_error_of_the_tree_has_a_row_or_a_reason() -> None:
    roots = {errors.ModelApiError, errors.RequestError, errors.ServingError, errors.RepositoryError}
    for kind in error_types():
        if kind in roots:
            continue  # never raised themselves
        assert (kind in problems.ROWS) != (kind in NEVER_IN_A_REQUEST), kind


def test_slugs_are_one_per_row() -> None:
    slugs = [row.slug for row in problems.ROWS.values()]
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize(
    ("error", "status", "retry_after_s"),
    [
        (errors.UnknownModel("nope"), 404, None),
        (errors.VersionNotLoaded("minilm", "9"), 404, None),
        (errors.QueueFull("128 requests are waiting"), 503, "1"),
        (errors.DeadlineExceeded("no answer within 30 s"), 504, None),
        (errors.ModelNotReady("minilm", "loading"), 503, "5"),
        (errors.LaneFailed("died twice"), 503, "1"),
        (errors.ForwardFailed("minilm@1 failed on this input"), 500, None),
        (errors.CallerLeft("left"), 499, None),
        (errors.RepositoryUnavailable("not mounted"), 503, "5"),
    ],
)
def test_domain_errors(
    service_and_client: tuple[StandInService, FlaskClient],
    error: errors.ModelApiError,
    status: int,
    retry_after_s: str | None,
) -> None:
    service, client = service_and_client
    service.fail_with = error
    response = client.post("/sim", json=SIM)
    document = problem_of(response, status)
    assert document["detail"] == str(error)
    assert response.headers.get("Retry-After") == retry_after_s
    assert client.get(document["type"]).get_json()["status"] == status


@pytest.mark.parametrize("error", [RuntimeError("secret text"), errors.LoadFailed("secret"), KeyError("secret")])
def test_an_unexpected_error_tells_nothing_and_is_logged_with_the_request_id(
    service_and_client: tuple[StandInService, FlaskClient], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    service, client = service_and_client
    service.fail_with = error
    response = client.post("/predict", json={"model": "minilm", "inputs": "a"})
    document = problem_of(response, 500)
    assert b"secret" not in response.data
    assert b"Traceback" not in response.data
    logged = [record for record in caplog.records if record.exc_info]
    assert [record.__dict__["fields"]["id"] for record in logged] == [document["request_id"]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"target": NaN, "texts": []}', 400),
        (b'{"target": 1e999, "texts": []}', 400),
        (b'{"target": "\\ud800", "texts": []}', 400),
        (b'{"target": "\xff", "texts": []}', 400),
        (b"[" * 2000 + b"]" * 2000, 400),
        (b'{"target": "a", "texts": [], "parameters": {"truncate": ' + b"[" * 100 + b"]" * 100 + b"}}", 400),
        (b"[]", 422),
        (b"null", 422),
        (b'"a"', 422),
        (b'"{\\"target\\": \\"a\\", \\"texts\\": []}"', 422),
        (b"3", 422),
    ],
)
def test_bodies_that_are_no_json_object(client: FlaskClient, body: bytes, status: int) -> None:
    document = problem_of(client.post("/sim", data=body, content_type=JSON_TYPE), status)
    if status == 422:
        assert document["errors"] == [{"pointer": "", "detail": "the body must be a JSON object"}]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/sim", {"texts": []}, "/target"),
        ("/sim", {"target": "a"}, "/texts"),
        ("/sim", {"target": 1, "texts": []}, "/target"),
        ("/sim", {"target": None, "texts": []}, "/target"),
        ("/sim", {"target": "a", "texts": "a"}, "/texts"),
        ("/sim", {"target": "a", "texts": {"0": "a"}}, "/texts"),
        ("/sim", {"target": "a", "texts": ["a", 2]}, "/texts/1"),
        ("/sim", {"target": "a", "texts": ["a", ""]}, "/texts/1"),
        ("/sim", {"target": "", "texts": []}, "/target"),
        ("/sim", {"target": "a", "texts": [], "model": 3}, "/model"),
        ("/sim", {"target": "a", "texts": [], "a/b~c": 3}, "/a~1b~0c"),
        ("/sim", {"target": "a", "texts": [], "parameters": []}, "/parameters"),
        ("/predict", {"inputs": "a"}, "/model"),
        ("/predict", {"model": None, "inputs": "a"}, "/model"),
        ("/predict", {"model": "minilm"}, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": None}, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": ""}, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": ["a", ""]}, "/inputs/1"),
        ("/predict", {"model": "minilm", "inputs": [None]}, "/inputs/0"),
        ("/predict", {"model": "minilm", "inputs": {"a": 1}}, "/inputs"),
        ("/predict", {"model": "minilm", "inputs": "a", "input": "b"}, "/input"),
        ("/predict", {"model": "minilm", "inputs": "a", "parameters": "x"}, "/parameters"),
    ],
)
def test_values_that_do_not_fit_are_pointed_at(client: FlaskClient, path: str, body: Any, pointer: str) -> None:
    document = problem_of(client.post(path, json=body), 422)
    assert pointer in [place["pointer"] for place in document["errors"]]
    assert all(place["detail"] for place in document["errors"])


def test_many_findings_and_long_keys_stay_small(client: FlaskClient) -> None:
    many = client.post("/sim", json={f"k{i}": i for i in range(300)})
    assert len(problem_of(many, 422)["errors"]) == problems.MAX_ERRORS
    long = client.post("/sim", json={"target": "a", "texts": [], "k" * 2000: 1})
    assert problem_of(long, 422)["errors"][0]["pointer"] == ""


@pytest.mark.parametrize(
    "name", ["", "nope", "a b", "../x", "minilm@", "@1", "MiniLM", "é", "a\n", "x" * 3000, "minilm@2"]
)
def test_model_names_that_name_nothing(client: FlaskClient, name: str) -> None:
    response = client.post("/predict", json={"model": name, "inputs": "a"})
    problem_of(response, 404)
    assert len(response.data) < 1000


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "multipart/a",
        "x",
    ],
)
def test_other_content_types(client: FlaskClient, content_type: str | None) -> None:
    problem_of(client.post("/sim", data=json.dumps(SIM), content_type=content_type), 415)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=UTF-8", 'application/json; charset="utf8"', "application/ld+json"],
)
def test_content_types_that_are_json(client: FlaskClient, content_type: str) -> None:
    assert client.post("/sim", data=json.dumps(SIM), content_type=content_type).status_code == 200


def test_too_large_a_body(client: FlaskClient) -> None:
    body = json.dumps({"target": "a" * 5000, "texts": []})
    problem_of(client.post("/sim", data=body, content_type=JSON_TYPE), 413)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_wrong_methods_are_told_the_right_ones(client: FlaskClient, method: str) -> None:
    response = client.open("/sim", method=method)
    problem_of(response, 405)
    assert set(response.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "path",
    ["/nope", "/models//x", "/%ff%fe", "/%00", "/a%0d%0ab", "/static/x", "/docs/../x"],
)
def test_unknown_routes(client: FlaskClient, path: str) -> None:
    problem_of(client.get(f"http://localhost{path}"), 404)


def test_a_slash_at_the_end_finds_the_route(client: FlaskClient) -> None:
    assert client.post("/sim/", json=SIM).status_code == 200
    assert client.get("/models/").status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/predict", {"model": "minilm", "input": "a"}, "did you mean 'inputs'?"),
        ("/sim", {"targets": "a", "texts": []}, "did you mean 'target'?"),
        ("/sim", {"target": "a", "texts": [], "zzz": 1}, "there are target, texts, model"),
    ],
)
def test_a_mistyped_key_is_told_with_the_right_one(
    client: FlaskClient, path: str, body: dict[str, Any], detail: str
) -> None:
    errors = problem_of(client.post(path, json=body), 422)["errors"]
    assert any(detail in error["detail"] for error in errors)


def test_a_browser_is_let_through_to_an_unknown_route(client: FlaskClient) -> None:
    """Else it shows its own complaint about CORS, and never the 404."""
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    response = client.options("/nope", headers=asked)
    assert response.status_code == 204
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    problem_of(client.post("/nope", json={}), 404)


def test_doubled_slashes_are_no_redirect(client: FlaskClient) -> None:
    assert client.post("/", json=SIM, environ_overrides={"PATH_INFO": "//sim"}).status_code == 200
    problem_of(client.get("/", environ_overrides={"PATH_INFO": "//models//minilm"}), 404)


def test_an_empty_path_is_the_index(client: FlaskClient) -> None:
    assert client.get("/", environ_overrides={"PATH_INFO": ""}).status_code == 200


def test_an_unknown_model_in_the_path(client: FlaskClient) -> None:
    assert "'nope'" in problem_of(client.get("/models/nope"), 404)["detail"]
    problem_of(client.get("/models/%ff%00"), 404)
    problem_of(client.get("/models/" + "x" * 5000), 404)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
NEAR_MISSES = st.fixed_dictionaries(
    {},
    optional={
        "target": st.text(max_size=5) | JSON_VALUES,
        "texts": st.lists(st.text(max_size=3) | JSON_VALUES, max_size=4) | JSON_VALUES,
        "model": st.sampled_from(["minilm", "minilm@1", "minilm@canary"]) | JSON_VALUES,
        "inputs": st.lists(st.text(max_size=3), max_size=4) | JSON_VALUES,
        "parameters": st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=2) | JSON_VALUES,
    },
)


@settings(max_examples=150)
@given(path=st.sampled_from(["/sim", "/predict"]), body=st.one_of(NEAR_MISSES, JSON_VALUES))
def test_no_json_ever_gives_a_server_error_or_html(path: str, body: Any) -> None:
    _answers_well(path, json.dumps(body).encode())


@settings(max_examples=100)
@given(path=st.sampled_from(["/sim", "/predict"]), body=st.binary(max_size=50))
def test_no_bytes_ever_give_a_server_error_or_html(path: str, body: bytes) -> None:
    _answers_well(path, body)


FUZZED = stand_in_app()[0].test_client()


def _answers_well(path: str, body: bytes) -> None:
    response = FUZZED.post(path, data=body, content_type=JSON_TYPE)
    if response.status_code == 200:
        assert response.mimetype == JSON_TYPE
        if path == "/sim":
            sent, told = json.loads(body), json.loads(response.data)["context"]
            assert told["target"] == sent["target"]
            assert told["texts"] == sent["texts"]
            assert len(told["sims"]) == len(sent["texts"])
    else:
        assert problem_of(response, response.status_code)["status"] in (400, 404, 422)


def test_the_documentation_lists_every_problem() -> None:
    table = (ROOT / "docs" / "http.md").read_text()
    for row in problems.ROWS.values():
        assert f"| {row.status} | {row.slug} |" in table
        (line,) = [line for line in table.splitlines() if f"| {row.slug} |" in line]
        assert ("after Retry-After" in line) == (row.retry_after_s is not None)
