"""Precision int8 from the manifest or the setting to a loaded model, and back where it isn't near enough."""

from pathlib import Path
from typing import Any

import int8_encoder
import pytest

from model_api.publishing.draft import draft, publish
from model_api.repository.manifest import Manifest
from tests.needs import missing
from tests.rigs.author import Author
from tests.rigs.leader import Leader
from tests.rigs.models import tiny_model
from tests.rigs.server import server

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _needs_kernels() -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")


def drafted(folder: Path, **options: Any) -> Manifest:
    made = draft(tiny_model(folder, seed=1), "tiny", lambda done, total: None, "embedding", options=options)
    return made.manifest


def test_the_manifest_asks_for_int8(tmp_path: Path) -> None:
    with Leader(tmp_path, drafted(tmp_path, precision="int8")) as leader:
        assert (leader.precision, leader.precision_reason) == ("int8", None)


def test_the_manifest_outranks_the_setting(tmp_path: Path) -> None:
    with Leader(tmp_path, drafted(tmp_path, precision="float32"), precision="int8") as leader:
        assert leader.precision == "float32"


def test_int8_below_the_manifests_bound_gives_way(tmp_path: Path) -> None:
    with Leader(tmp_path, drafted(tmp_path, int8_min_cosine=1.0), precision="int8") as leader:
        assert leader.precision in ("bfloat16", "float32")
        assert leader.precision_reason is not None
        assert leader.precision_reason.startswith("in int8: int8 differs from float32 (cosine 0.99")


def test_models_tells_the_precision_and_why(tmp_path: Path, tiny_author: Author) -> None:
    strict = draft(
        tiny_model(tmp_path / "two", seed=2), "strict", lambda done, total: None, "embedding",
        options={"int8_min_cosine": 1.0},
    )  # fmt: skip
    publish(tiny_author.layout, strict, lambda done, total: None)
    root = tiny_author.layout.root
    with server(tmp_path / "server", MODEL_API_EFS_ROOT=root, MODEL_API_PRECISION="int8") as api:
        api.wait_until_ready()
        tiny, strict_one = api.get("/models/tiny").json(), api.get("/models/strict").json()
        assert (tiny["precision"], tiny["precision_reason"]) == ("int8", None)
        assert strict_one["precision"] != "int8"
        assert "below 1" in strict_one["precision_reason"]
        assert strict_one["versions"][0]["precision_reason"] == strict_one["precision_reason"]
        assert "in int8: int8 differs from float32" in api.log_path.read_text()
        body = {"model": "tiny", "inputs": ["the cat", "rain and tea"]}
        answer = api.post("/predict", body)
        assert answer.headers["x-model-precision"] == "int8"
        together = answer.json()["predictions"]
        alone = [api.post("/predict", {**body, "inputs": [text]}).json()["predictions"][0] for text in body["inputs"]]
        assert together == alone
