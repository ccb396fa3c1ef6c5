"""What /metrics tells, and that nobody outside can make labels."""

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from model_api.instance.polling import Mount
from model_api.web.metrics import Metrics
from tests.rigs.stand_in_service import StandInService, stand_in_app

SERVED = {"model": "minilm", "version": "1"}


@pytest.fixture
def service_and_client() -> tuple[StandInService, FlaskClient]:
    app, service = stand_in_app()
    return service, app.test_client()


def samples(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels, as Prometheus' own parser reads them."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(client: FlaskClient, name: str, **labels: str) -> float:
    return samples(client)[name, frozenset(labels.items())]


def test_requests_and_answers_are_counted(service_and_client: tuple[StandInService, FlaskClient]) -> None:
    _, client = service_and_client
    for _ in range(3):
        client.post("/sim", json={"target": "abc", "texts": ["ab", "c"]})
    client.post("/sim", json={})
    assert value(client, "model_api_requests_total", route="/sim", method="POST", status="200") == 3
    assert value(client, "model_api_requests_total", route="/sim", method="POST", status="422") == 1
    assert value(client, "model_api_request_seconds_count", **SERVED) == 3
    assert value(client, "model_api_queue_ms_sum", **SERVED) == 0.75
    assert value(client, "model_api_forward_ms_sum", **SERVED) == 4.5
    assert value(client, "model_api_batch_size_sum", **SERVED) == 6
    assert value(client, "model_api_tokens_total", **SERVED) == 18


def test_a_cached_answer_counts_no_forward(service_and_client: tuple[StandInService, FlaskClient]) -> None:
    service, client = service_and_client
    service.age_s = 3
    client.post("/sim", json={"target": "abc", "texts": ["ab"]})
    assert value(client, "model_api_request_seconds_count", **SERVED) == 1
    assert value(client, "model_api_forward_ms_count", **SERVED) == 0


def test_labels_are_bounded(service_and_client: tuple[StandInService, FlaskClient]) -> None:
    _, client = service_and_client
    client.get("/healthz")
    client.open("/nope", method="GET")
    client.open("/nope", method="MADE-UP-0")
    before = len(samples(client))
    for i in range(50):
        client.get(f"/made/up/{i}")
        client.get(f"/models/m{i}")
        client.open("/nope", method=f"MADE-UP-{i}")
        client.post("/predict", json={"model": f"m{i}", "inputs": "a"})
    # /models/<name> and /predict each answered 404 for the first time: a counter and its creation time.
    assert len(samples(client)) <= before + 4 + 2
    assert not any("m7" in dict(labels).values() for _, labels in samples(client))


def test_the_mount_and_readiness_are_looked_up_when_scraped(
    service_and_client: tuple[StandInService, FlaskClient],
) -> None:
    service, client = service_and_client
    assert (value(client, "model_api_mount_up"), value(client, "model_api_mount_age_seconds")) == (1, 0.5)
    service.seen = Mount(False, "gone", 9.0)
    service.ready = False
    assert (value(client, "model_api_mount_up"), value(client, "model_api_mount_age_seconds")) == (0, 9.0)
    assert value(client, "model_api_ready") == 0


def test_loaded_models_are_shown_whole() -> None:
    metrics = Metrics()
    metrics.loaded.show([("b", "2", "loading"), ("b", "1", "serving")])
    assert b'model_api_loaded_models{model="b",state="serving",version="1"} 1.0' in metrics.render()
    metrics.loaded.show([("b", "2", "serving")])
    assert b'version="1"' not in metrics.render()
    metrics.queue_entries.set(5)
    assert b"model_api_queue_entries 5.0" in metrics.render()
