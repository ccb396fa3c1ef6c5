"""docs/from-2020.md, done: its commands on a checkpoint that TensorFlow wrote."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from model_api.publishing.changes import init
from tests.rigs.project import ROOT
from tests.rigs.server import server

pytestmark = pytest.mark.integration
PAGE = (ROOT / "docs/from-2020.md").read_text()
CHECKPOINT = ROOT / "tests/conversion/tiny_bert"


def test_its_commands_lead_from_a_checkpoint_to_sims(tmp_path: Path) -> None:
    (block,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    root = tmp_path / "efs"
    root.mkdir()
    init(root)
    script = block.replace("./multi_cased_L-12_H-768_A-12", str(CHECKPOINT)).replace("./bert-multi", f"{tmp_path}/out")
    environment = {**os.environ, "MODEL_API_EFS_ROOT": str(root)}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=root) as api:
        api.wait_until_ready()
        answer = api.post("/sim", {"target": "the cat", "texts": ["a ||| b", "the cat"]})
        assert (answer.status, answer.headers["x-model"]) == (200, "bert-multi")
        sims = answer.json()["context"]["sims"]
        assert len(sims) == 2
        assert sims[1] == pytest.approx(1, abs=0.01)
        assert api.post("/sim", {"target": "a", "texts": ["b", ""]}).json()["errors"][0]["pointer"] == "/texts/1"
