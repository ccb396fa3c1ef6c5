"""A server of small models for other people's clients, and how those are run."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.catalogue.kinds_classifiers import classifying
from tests.catalogue.kinds_rerankers import reranker
from tests.needs import missing
from tests.rigs.models import tiny_model
from tests.rigs.project import ROOT
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer
from tests.rigs.stores import new_store, published

CLIENTS_PYTHON = ROOT / ".venvs" / "clients" / "bin" / "python"
LABELS = ("bad", "fair", "good")


@contextmanager
def serving_all(folder: Path, **settings: object) -> Iterator[Server]:
    """`tiny` embeds, `mood` classifies, `ranker` ranks, `summary` summarises."""
    layout = new_store(folder / "efs")
    published(layout, tiny_model(folder / "tiny", seed=1), "tiny")
    for name, build in (
        ("mood", classifying("bert", id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)})),
        ("ranker", reranker("bert")),
    ):
        (folder / name).mkdir()
        build(folder / name)
        published(layout, folder / name, name, task="reranking" if name == "ranker" else "text-classification")
    save_small_t5(folder / "summary")
    save_small_tokenizer(folder / "summary", max_tokens=512, ends="t5")
    published(layout, folder / "summary", "summary", task="summarization")
    with server(folder / "api", MODEL_API_EFS_ROOT=layout.root, MODEL_API_PROTOCOL_MODEL="tiny", **settings) as api:
        api.wait_until_ready()
        yield api


def told_by(client: str, api: Server, python: Path = CLIENTS_PYTHON) -> dict[str, Any]:
    """What a client of peers_driver.py got."""
    if not python.exists():
        missing("scripts/setup-clients has not been run")
    command = [str(python), "-m", "tests.clients.peers_driver", client, api.url]
    # Set for the tests' own processes, Hugging Face's client would ask nobody, not even this machine.
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
