"""The OpenAPI document is valid and true, and the pages ask no other host for anything."""

import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import jsonschema
import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from model_api.repository.known_tasks import TASKS
from model_api.tasks import find_task
from model_api.web.protocols.spoken import BLUEPRINTS
from tests.rigs.stand_in_service import stand_in_app

# OpenAI's own document has its routes; those of the worker tier are Beanstalk's daemon's alone.
ELSEWHERE = {"v1", "worker"}
PROTOCOLS = {tag.name for blueprint in BLUEPRINTS for tag in blueprint.abp_tags}


@pytest.fixture
def client() -> FlaskClient:
    return stand_in_app()[0].test_client()


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    response = client.get("/openapi.json")
    assert response.mimetype == "application/json"
    loaded: dict[str, Any] = json.loads(response.data)
    return loaded


def check(document: dict[str, Any], name: str, value: object) -> None:
    """Whether `value` fits the schema `name` of the document."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_route(document: dict[str, Any]) -> None:
    rules = [rule for rule in stand_in_app()[0].url_map.iter_rules() if rule.rule.split("/")[1] not in ELSEWHERE]
    rules = [rule for rule in rules if not rule.endpoint.startswith("summaries_log.")]  # docs/history.md has them
    served: dict[str, set[str]] = {}
    for rule in rules:
        path = rule.rule.replace("<", "{").replace(">", "}")
        served.setdefault(path, set()).update(str(m).lower() for m in (rule.methods or set()) - {"HEAD", "OPTIONS"})
    undescribed = ("/docs/{name}", "/problems/{slug}", "/static/{name}", "/jobs/objects/{kind}/{name}")
    assert {path: set(operations) for path, operations in document["paths"].items()} == {
        path: methods for path, methods in served.items() if path not in undescribed
    }


@pytest.mark.parametrize(
    ("path", "body", "answer"), [("/sim", "SimBody", "SimAnswer"), ("/predict", "PredictBody", "PredictAnswer")]
)
def test_its_examples_run(client: FlaskClient, document: dict[str, Any], path: str, body: str, answer: str) -> None:
    examples = document["components"]["schemas"][body]["examples"]
    assert examples
    for example in examples:
        check(document, body, example)
        response = client.post(path, json=example)
        assert response.status_code == 200
        check(document, answer, response.get_json())
        described = document["paths"][path]["post"]["responses"]["200"]["headers"]
        at_times = {"X-Model-Min-Cosine"}  # where a publish measured it
        assert set(described) - at_times <= set(response.headers.keys())


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/", "Index"),
        ("/models", "ModelList"),
        ("/models/minilm", "ModelDetails"),
        ("/healthz", "Alive"),
        ("/readyz", "ReadinessState"),
        ("/mount_check", "MountState"),
    ],
)
def test_answers_fit_their_schemas(client: FlaskClient, document: dict[str, Any], path: str, schema: str) -> None:
    check(document, schema, client.get(path).get_json())


def test_problems_fit_their_schema(client: FlaskClient, document: dict[str, Any]) -> None:
    for response in (client.get("/nope"), client.post("/sim", json={"target": 1}), client.get("/models/nope")):
        check(document, "Problem", json.loads(response.data))


def test_operations_have_names_that_a_person_would_write_and_one_noun_each(document: dict[str, Any]) -> None:
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(_[a-z]+){0,3}", name) for name in names)
    assert {"compare", "predict", "list_models", "get_readiness", "clear_cache"} <= set(names)
    assert all(len(operation["tags"]) == 1 for operation in operations)
    assert "other" not in {tag["name"] for tag in document["tags"]}, "name the new operation in web/openapi.py"


def test_operators_routes_name_their_key(document: dict[str, Any]) -> None:
    assert document["paths"]["/cache"]["delete"]["security"] == [{"bearer": []}, {"apiKey": []}, {"basic": []}]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"


def test_predictions_and_parameters_are_typed_by_task(document: dict[str, Any]) -> None:
    for task in map(find_task, TASKS):
        check(document, task.parameters.__name__, task.parameters().model_dump())
    good = {"model": "m", "version": "1", "digest": "d", "task": "t", "usage": {"tokens": 1}}
    for prediction in ([0.5, 1.0], {"label": "a", "score": 0.5}, {"text": "a", "tokens": 1, "finish_reason": "stop"}):
        check(document, "PredictAnswer", {**good, "predictions": [prediction]})
    with pytest.raises(jsonschema.ValidationError):
        check(document, "PredictAnswer", {**good, "predictions": ["neither"]})
    with pytest.raises(jsonschema.ValidationError):
        check(document, "PredictBody", {"model": "m", "inputs": "a", "parameters": {"num_beams": 99}})


def test_every_error_is_described_as_a_problem(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                own = operation["tags"][0] in PROTOCOLS  # other people's tell errors in words of their own
                if not own and (status == "default" or int(status) >= 400):
                    assert list(response["content"]) == ["application/problem+json"]


class References(HTMLParser):
    """What a page loads or links to, and whether it holds code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline_scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value for name in ("src", "href") if (value := given.get(name))]
        self.inline_scripts += tag == "script" and "src" not in given


def test_docs_load_from_this_host_only(client: FlaskClient) -> None:
    page = client.get("/docs")
    references = References()
    references.feed(page.text)
    assert len(references.found) >= 4
    assert references.inline_scripts == 0
    for reference in references.found:
        url = urlsplit(urljoin("http://localhost/docs", reference))
        assert url.netloc == "localhost"
        asset = client.get(url.path)
        assert asset.status_code == 200
        assert asset.data
        asset.close()
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())


def test_docs_assets_are_a_fixed_set(client: FlaskClient) -> None:
    assert client.get("/docs/plugins.py").status_code == 404
    assert client.get("/static/render.py").status_code == 404
    with client.get("/static/swagger_start.js") as script:
        assert script.mimetype == "text/javascript"


def test_only_swagger_may_style_from_its_script(client: FlaskClient) -> None:
    policies = {
        path: client.get(path, headers={"Accept": "text/html"}).headers["Content-Security-Policy"]
        for path in ("/", "/docs")
    }
    assert "unsafe" not in policies["/"]
    assert "style-src 'self' 'unsafe-inline'" in policies["/docs"]
    assert "script-src 'self';" in policies["/docs"]


def test_protocols_are_tagged(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    assert tags >= PROTOCOLS
    assert len(PROTOCOLS) >= 5
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    assert infer["requestBody"]["content"]["application/json"]["example"]["inputs"][0]["datatype"] == "BYTES"
    assert list(infer["responses"]["default"]["content"]) == ["application/json"]
