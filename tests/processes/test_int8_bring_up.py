"""Precision int8 from the manifest or the setting to a loaded model, and back where it isn't near enough."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import int8_encoder
import pytest

from model_api.processes.model_side.accuracy import sample_texts
from model_api.publishing.commands.main import main
from model_api.publishing.draft import draft, publish
from model_api.repository.accuracy import Accuracy
from model_api.repository.layout import Layout
from model_api.repository.manifest import Manifest
from tests.needs import missing
from tests.rigs.author import Author
from tests.rigs.leader import Leader
from tests.rigs.models import TINY, tiny_model
from tests.rigs.polling import wait_until
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


def test_int8_measured_below_the_bound_at_publish_gives_way(tmp_path: Path) -> None:
    """Though the built-in texts of the instance's own check would pass."""
    near, far = (Accuracy("int8", 70, cosine, 0.99, 0.1, 0.9, 9, None) for cosine in (0.985, 0.975))
    asked = drafted(tmp_path, precision="int8")
    with Leader(tmp_path, replace(asked, accuracy=near)) as leader:
        assert (leader.precision, leader.precision_reason) == ("int8", None)
    with Leader(tmp_path, replace(asked, accuracy=far)) as leader:
        assert leader.precision in ("bfloat16", "float32")
        assert leader.precision_reason == "in int8: measured at publish on 70 texts: cosine 0.9750, below 0.98"


def test_what_publish_measured_is_told_with_every_answer(tmp_path: Path) -> None:
    root, folder, probes = tmp_path / "efs", tiny_model(tmp_path / "tiny", seed=1), tmp_path / "probes.json"
    loose = {"inputs": ["the cat", "rain and tea"], "outputs": [[0.0] * TINY.hidden] * 2, "tolerance": 10}
    probes.write_text(json.dumps(loose))
    root.mkdir()
    command = ["publish", str(folder), "--model", "tiny", "--root", str(root), "--init", "--probe", str(probes)]
    assert main([*command, "--option", "precision=int8"]) == 0
    manifest = Manifest.from_json((Layout(root).version("tiny", "1") / "manifest.json").read_bytes())
    measured = manifest.accuracy
    assert measured is not None
    assert (measured.precision, measured.texts) == ("int8", len(sample_texts()) + 2)
    with server(tmp_path / "server", MODEL_API_EFS_ROOT=root) as api:
        api.wait_until_ready()
        assert api.get("/models/tiny").json()["accuracy"] == measured.to_document()
        answer = api.post("/predict", {"model": "tiny", "inputs": ["the cat"]})
        assert answer.headers["x-model-min-cosine"] == f"{measured.min_cosine:.4f}"
        command = ["models", "--precision", "--root", str(root)]
        wait_until(lambda: f"int8 (cosine >= {measured.min_cosine:.4f})" in said_by(command), within_s=30)


def said_by(command: list[str]) -> str:
    with redirect_stdout(io.StringIO()) as said:
        assert main(command) == 0
    return said.getvalue()


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
