"""A canary on two instances, and an author who waits for both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import Server, model_api, server

pytestmark = pytest.mark.integration
KEYS = [f"customer-{n}" for n in range(60)]


@pytest.fixture
def instances(tmp_path: Path, tiny_author: Author) -> Iterator[tuple[Server, Server]]:
    settings = {"MODEL_API_EFS_ROOT": tiny_author.layout.root, "MODEL_API_LANES": 1}
    with server(tmp_path / "a", **settings) as first, server(tmp_path / "b", **settings) as second:
        first.wait_until_ready()
        second.wait_until_ready()
        yield first, second


def versions(api: Server, model: str = "tiny") -> list[str]:
    body = {"model": model, "inputs": "the cat"}
    return [api.post("/predict", body, **{"X-Canary-Key": key}).headers["x-model-version"] for key in KEYS]


def test_a_canary_from_publish_to_promotion(
    tmp_path: Path, tiny_author: Author, instances: tuple[Server, Server]
) -> None:
    root = f"--root={tiny_author.layout.root}"
    tiny_model(tmp_path / "two", seed=2)
    model_api("publish", tmp_path / "two", "--model", "tiny", "--canary", "30", "--wait", root)

    first = versions(instances[0])
    assert first == versions(instances[0])  # sticky
    assert first == versions(instances[1])  # the same on every instance
    assert 5 <= first.count("2") <= 32
    assert set(versions(instances[0], "tiny@canary")) == {"2"}
    assert set(versions(instances[0], "tiny@1")) == {"1"}
    metrics = instances[0].get("/metrics").body.decode()
    assert 'model_api_request_seconds_count{model="tiny",version="1"}' in metrics
    assert 'model_api_request_seconds_count{model="tiny",version="2"}' in metrics

    shown = model_api("models", "tiny", root)
    assert "canary 30 %" in shown
    assert all(api.instance in shown for api in instances)

    model_api("promote", "tiny", root)
    for api in instances:
        api.wait_for_model("tiny", version="2", canary=None)
        assert set(versions(api)) == {"2"}

    model_api("rollback", "tiny", root)
    for api in instances:
        api.wait_for_model("tiny", version="1")
        assert set(versions(api)) == {"1"}


def test_waiting_ends_with_a_refusal_that_names_the_instances_reason(
    tmp_path: Path, tiny_author: Author, instances: tuple[Server, Server]
) -> None:
    probes = tmp_path / "probes.json"
    probes.write_text('[{"inputs": ["the cat"], "outputs": [[1, 2, 3]]}]')
    tiny_model(tmp_path / "two", seed=2)
    arguments = ["publish", tmp_path / "two", "--model", "tiny", "--probe", probes, "--wait", "--no-check"]
    with pytest.raises(AssertionError, match=r"exited 4\n(.|\n)*probe 0, input 0"):
        model_api(*map(str, arguments), f"--root={tiny_author.layout.root}")
    for api in instances:
        assert set(versions(api)) == {"1"}
        shown = api.wait_for_model("tiny", state="degraded", version="1")
        assert shown["refused"][0]["version"] == "2"
        assert api.get("/readyz").status == 200
