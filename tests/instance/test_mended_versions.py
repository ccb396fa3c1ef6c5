"""What an instance refused is tried again once its author has put it right."""

import json
from pathlib import Path
from typing import Any

import pytest

from model_api.publishing.draft import draft, publish
from model_api.repository.manifest import Probe
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.stores import quiet

pytestmark = pytest.mark.integration

TEXT = {"model": "tiny", "inputs": "the cat and the dog"}


def refused(api: Server) -> list[Any]:
    answer = api.get("/models/tiny")  # 404 before the first look
    return list(answer.json()["refused"]) if answer.status == 200 else []


def test_a_damaged_version_serves_once_it_is_published_again(tiny_author: Author, tmp_path: Path) -> None:
    tiny_author.publish(tiny_model(tmp_path / "two", seed=2), "tiny")
    weights = tiny_author.weights("tiny", "2")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tiny_author.layout.root) as api:
        wait_until(lambda: "does not have the hash" in json.dumps(refused(api)), within_s=60, what="a refusal")
        api.wait_for_model("tiny", state="degraded", version="1")
        assert tiny_author.publish(tmp_path / "two", "tiny").version == "2"
        api.wait_for_model("tiny", state="serving", version="2")
        assert api.post("/predict", TEXT).headers["x-model-version"] == "2"


def test_a_wrong_probe_is_corrected_by_publishing_a_right_one(tiny_author: Author, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "two", seed=2)

    def publish_with(outputs: list[float]) -> str:
        made = draft(folder, "tiny", quiet, options={"pooling": "mean"}, probes=[Probe(("the cat",), (outputs,))])
        return publish(tiny_author.layout, made, quiet).ref.version

    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tiny_author.layout.root) as api:
        api.wait_until_ready()
        assert publish_with([1.0, 2.0]) == "2"
        wait_until(lambda: "probe 0" in json.dumps(refused(api)), within_s=60, what="a refusal")
        made = draft(folder, "tiny", quiet, options={"pooling": "mean"})
        right = publish(tiny_author.layout, made, quiet).ref.version
        api.wait_for_model("tiny", state="serving", version=right)
        outputs = api.post("/predict", {"model": "tiny", "inputs": "the cat"}).json()["predictions"][0]
        assert publish_with(outputs) == "4"
        api.wait_for_model("tiny", state="serving", version="4")
        assert refused(api) == []
