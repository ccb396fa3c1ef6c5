"""OpenAI's own client, unmodified: embeddings, and a batch of them from file to file."""

import json
import subprocess
from typing import Any

import numpy as np
import pytest

from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("openai")
    (folder / "efs").mkdir()
    Author(folder / "efs").publish(tiny_model(folder / "model", seed=1), "tiny")
    with server(folder / "server", MODEL_API_EFS_ROOT=folder / "efs") as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="module")
def told(api: Server) -> dict[str, Any]:
    if not list(DEPLOY_BIN.parent.glob("lib/*/site-packages/openai")):
        missing("scripts/setup-deploy --dev has not been run")
    command = [str(DEPLOY_BIN / "python"), "-m", "tests.clients.openai_driver", api.url, "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def predicted(api: Server, texts: list[str]) -> Any:
    body = {"model": "tiny", "inputs": texts, "parameters": {"normalize": True}}
    return np.array(api.post("/predict", body).json()["predictions"], np.float32)


def test_embeddings_are_the_models_own_of_length_one(api: Server, told: dict[str, Any]) -> None:
    found = told["embeddings"]
    vectors = np.array(found["vectors"], np.float32)
    assert np.array_equal(vectors, predicted(api, ["the cat", "the rain"]))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (found["same"], found["one"], found["size"], found["models"]) == (True, 1, 1, ["tiny"])
    assert found["usage"]["prompt_tokens"] == found["usage"]["total_tokens"] > 0


@pytest.mark.parametrize(
    ("which", "kind", "param", "code"),
    [
        ("tokens", "BadRequestError", "input", "invalid_input"),
        ("token_list", "BadRequestError", "input", "invalid_input"),
        ("empty", "BadRequestError", "input", "invalid_input"),
        ("dimensions", "BadRequestError", "dimensions", "invalid_input"),
        ("model", "NotFoundError", None, "model_not_found"),
        ("path", "NotFoundError", None, "not_found"),
    ],
)
def test_refusals_have_openai_s_shape(
    told: dict[str, Any], which: str, kind: str, param: str | None, code: str
) -> None:
    found = told["embeddings"]["refused"][which]
    assert (found["class"], found["param"], found["code"]) == (kind, param, code), found


def test_a_batch_runs_from_file_to_files(api: Server, told: dict[str, Any]) -> None:
    found = told["batches"]
    assert (found["sent"]["status"], found["sent"]["filename"], found["read_back"]) == ("processed", "in.jsonl", True)
    done = found["done"]
    assert (done["status"], done["metadata"], done["errors"]) == ("completed", {"night": "1"}, None)
    assert {key: done["request_counts"][key] for key in ("total", "completed", "failed")} == {
        "total": 30,
        "completed": 28,
        "failed": 2,
    }
    assert done["created_at"] <= done["in_progress_at"] <= done["completed_at"] < done["expires_at"]
    assert [line["custom_id"] for line in found["output"]] == [f"row-{i}" for i in range(30) if i not in (7, 8)]
    plain = [line for line in found["output"] if line["custom_id"] != "row-3"]
    vectors = [line["response"]["body"]["data"][0]["embedding"] for line in plain]
    texts = [f"the cat number {line['custom_id'][4:]}" for line in plain]
    assert np.array_equal(np.array(vectors, np.float32), predicted(api, texts))
    two = found["output"][3]["response"]["body"]
    assert [isinstance(item["embedding"], str) for item in two["data"]] == [True, True]
    assert [line["custom_id"] for line in found["errors"]] == ["row-7", "row-8"]
    assert {line["response"]["status_code"] for line in found["errors"]} == {400}
    assert "token ids" in found["errors"][0]["response"]["body"]["error"]["message"]
    assert (found["output_bytes"], found["listed"], found["files"], found["deleted"]) == (True, True, True, True)


def test_a_file_that_is_no_batch_fails_as_a_whole(told: dict[str, Any]) -> None:
    failed = told["batches"]["failed"]
    assert (failed["status"], failed["output_file_id"]) == ("failed", None)
    assert "line 31" in failed["errors"]["data"][0]["message"]


def test_what_isn_t_there_or_can_t_be_done(told: dict[str, Any]) -> None:
    found = told["batches"]
    assert found["gone"]["class"] == found["unknown"]["class"] == "NotFoundError"
    assert found["cancel_late"]["class"] == "BadRequestError"
    assert (found["purpose"]["class"], found["purpose"]["param"]) == ("BadRequestError", "purpose")


def test_a_batch_is_cancelled_while_it_runs(told: dict[str, Any]) -> None:
    assert told["cancelled"] == "cancelled"
