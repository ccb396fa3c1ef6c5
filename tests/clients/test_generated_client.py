"""A client that openapi-python-client makes of /openapi.json, against a running server."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from scripts.rehearsal.upload import DEPLOY_BIN
from tests.needs import missing
from tests.rigs.server import Server

pytestmark = pytest.mark.integration

ASK = """
import json, sys
from model_api_client import Client
from model_api_client.api.health import get_readiness
from model_api_client.api.models import list_models
from model_api_client.api.predictions import predict
from model_api_client.api.similarity import compare
from model_api_client.models import EmbeddingParameters, PredictBody, Problem, SimBody

client = Client(base_url=sys.argv[1])
sims = compare.sync(client=client, body=SimBody(target="a cat", texts=["a kitten", "stocks"])).context.sims
body = PredictBody(model="minilm", inputs=["a cat"], parameters=EmbeddingParameters(normalize=True))
answer = predict.sync(client=client, body=body)
problem = predict.sync(client=client, body=PredictBody(model="nope", inputs="a"))
assert isinstance(problem, Problem), problem
print(json.dumps({
    "sims": sims,
    "model": answer.model,
    "vector": answer.predictions[0],
    "problem": problem.type_,
    "ready": get_readiness.sync(client=client).ready,
    "models": [model.name for model in list_models.sync(client=client).models],
}))
"""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory, minilm_api: Server) -> Path:
    if not (DEPLOY_BIN / "openapi-python-client").exists():
        missing("scripts/setup-deploy --dev has not been run")
    folder = tmp_path_factory.mktemp("client")
    (folder / "openapi.json").write_bytes(minilm_api.get("/openapi.json").body)
    done = subprocess.run(
        [DEPLOY_BIN / "openapi-python-client", "generate", "--path", "openapi.json", "--fail-on-warning"],
        cwd=folder,
        env={**os.environ, "PATH": f"{DEPLOY_BIN}:{os.environ['PATH']}"},  # it formats what it writes with ruff
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "model-api-client"


def test_its_calls_and_types_fit(generated: Path, minilm_api: Server) -> None:
    done = subprocess.run(
        [DEPLOY_BIN / "python", "-c", ASK, minilm_api.url],
        env={**os.environ, "PYTHONPATH": str(generated)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["sims"][0] > seen["sims"][1]
    assert (seen["model"], len(seen["vector"])) == ("minilm", 384)
    assert sum(value * value for value in seen["vector"]) == pytest.approx(1, abs=1e-3)
    assert seen["problem"] == "/problems/unknown-model"
    assert seen["ready"] is True
    assert seen["models"] == ["minilm"]
