"""`python -m tests.rigs.example_store`: make efs_layout/example anew, a store of one tiny encoder in two versions.

The second version has a probe, whose outputs a server of this project gave.
"""

import json
import shutil
import tempfile
from pathlib import Path

from model_api.repository.layout import Layout
from tests.rigs.models import BertSize, tiny_model
from tests.rigs.project import ROOT
from tests.rigs.server import model_api, server

EXAMPLE = ROOT / "efs_layout" / "example"
NAME = "example"
SIZE = BertSize(hidden=16, layers=1, heads=2, ffn=32, vocabulary=112, positions=32)
TEXT = "the model is published once"
INSTANCE = "i-0123456789abcdef0"


def folder_of(folder: Path, seed: int) -> Path:
    """As sentence-transformers saves one, with the mean of its words' vectors."""
    tiny_model(folder, seed, SIZE)
    kinds = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling")}
    modules = [
        {"idx": int(name), "name": name, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for name, (path, kind) in kinds.items()
    ]
    documents = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": SIZE.hidden, "pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.0.0"}},
        "tokenizer_config.json": {"do_lower_case": True},
    }
    for name, document in documents.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(document, indent=1) + "\n")
    return folder


def write_probe(folder: Path, work: Path) -> Path:
    """A probe file with what a server of `folder` answers."""
    publish(work / "efs", folder, "1")
    with server(work / "api", MODEL_API_EFS_ROOT=work / "efs", MODEL_API_PRECISION="float32") as api:
        api.wait_until_ready()
        outputs = api.post("/predict", {"model": NAME, "inputs": [TEXT]}).json()["predictions"]
    rounded = [[round(value, 4) for value in output] for output in outputs]
    probe = {"inputs": [TEXT], "outputs": rounded, "parameters": {}, "tolerance": 0.02}
    (work / "probe.json").write_text(json.dumps([probe]))
    return work / "probe.json"


def publish(root: Path, folder: Path, version: str, *more: str | Path) -> None:
    if not root.exists():
        root.mkdir()
        model_api("publish", "--init", "--root", root)
    model_api("publish", folder, "--model", NAME, "--version", version, "--root", root, *more)


def make(work: Path) -> None:
    root = work / "store"
    publish(root, folder_of(work / "one", 1), "1")
    second = folder_of(work / "two", 2)
    probe = write_probe(second, work)
    publish(root, second, "2", "--probe", probe, "--option", "max_batch_tokens=512")
    made, example = Layout(root), Layout(EXAMPLE)
    shutil.rmtree(EXAMPLE)
    shutil.copytree(made.versions(NAME), example.versions(NAME))
    (EXAMPLE / ".model-store").write_text((root / ".model-store").read_text())
    refs = json.loads(made.refs(NAME).read_text()) | {"proven": ["1", "2"]}
    refs["last_good"] = refs["stable"]
    example.refs(NAME).write_text(json.dumps(refs, indent=1) + "\n")
    ref = {"version": "2", "digest": refs["stable"]["digest"]}
    model = {
        "name": NAME,
        "task": "embedding",
        **ref,
        "state": "serving",
        "since": "2026-01-01T12:00:00+00:00",
        "refused": [],
        "versions": [{**ref, "state": "ready", "reason": None}],
    }
    example.statuses.mkdir()
    status = {"models": [model], "instance": INSTANCE, "heartbeat": 1}
    (example.statuses / f"{INSTANCE}.json").write_text(json.dumps(status, indent=1) + "\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
