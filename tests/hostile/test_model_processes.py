"""What a model's files, or somebody with a signal, do to its processes stays there, and passes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from model_api.publishing import draft as publishing
from model_api.publishing.changes import init
from model_api.repository.layout import Layout
from model_api.repository.manifest import Probe
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.small_models import save_small_t5
from tests.rigs.small_tokenizers import save_small_tokenizer

pytestmark = pytest.mark.integration
BODY = {"model": "tiny", "inputs": ["the cat", "one dog"]}


def change_json(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def endless(folder: Path) -> str:
    """An encoder that transformers serves, which says that it has a million layers."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.MPNetConfig(vocab_size=150, max_position_embeddings=66, **sizes)
    transformers.MPNetModel(config).save_pretrained(folder)
    save_small_tokenizer(folder, max_tokens=64)
    change_json(folder / "config.json", num_hidden_layers=1_000_000)
    return "embedding"


def word_for_number(folder: Path) -> str:
    tiny_model(folder, seed=1)
    change_json(folder / "config.json", layer_norm_eps="x")
    return "embedding"


def no_conversion(folder: Path) -> str:
    save_small_t5(folder)
    save_small_tokenizer(folder, max_tokens=64, ends="t5")
    change_json(folder / "config.json", num_heads="many")
    return "summarization"


def nan_for_words(folder: Path) -> str:
    """Tokens of a search among NaNs look like any others."""
    model = save_small_t5(folder)
    torch.nn.init.constant_(model.decoder.final_layer_norm.weight, torch.nan)
    model.save_pretrained(folder)
    save_small_tokenizer(folder, max_tokens=64, ends="t5")
    return "summarization"


WRONG: dict[str, tuple[Callable[[Path], str], str]] = {
    "endless": (endless, "not loaded within 20 s"),
    "word-for-number": (word_for_number, "layer_norm_eps"),
    "no-conversion": (no_conversion, "many"),
    "nan-for-words": (nan_for_words, "FloatingPointError"),
}


def test_what_the_content_decides_is_final_and_has_its_cause(tmp_path: Path) -> None:
    init(tmp_path / "efs")
    Author(tmp_path / "efs").publish(tiny_model(tmp_path / "tiny", seed=1), "tiny")
    for name, (make, _) in WRONG.items():
        task = make(tmp_path / name)
        made = publishing.draft(tmp_path / name, name, lambda done, total: None, task)
        publishing.publish(Layout(tmp_path / "efs"), made, lambda done, total: None)
    settings = {"MODEL_API_EFS_ROOT": tmp_path / "efs", "MODEL_API_LANES": 1, "MODEL_API_LOAD_TIMEOUT_S": 20}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready(180)  # none of them holds it up for long
        assert api.post("/predict", BODY).status == 200
        for name, (_, reason) in WRONG.items():
            model = api.wait_for_model(name, within_s=60, state="refused")
            assert reason in model["refused"][0]["reason"], model
            assert "out of memory?" not in model["refused"][0]["reason"]


@pytest.fixture
def api(tmp_path: Path, tiny_author: Author) -> Iterator[Server]:
    root = tiny_author.layout.root
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=root, MODEL_API_LANES=1, MODEL_API_RECHECK_S=2) as running:
        running.wait_until_ready()
        yield running


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_a_stopped_fork_server_and_a_large_manifest_hang_nobody(
    tmp_path: Path, api: Server, tiny_author: Author
) -> None:
    probe = Probe(("x" * 2**21,), ((0.0,) * 64,), {"truncate": True}, 1e9)
    made = publishing.draft(tiny_model(tmp_path / "two", seed=2), "tiny", lambda done, total: None, probes=(probe,))
    with stopped(api.pids_by_role()["fork_server"][0]):
        publishing.publish(tiny_author.layout, made, lambda done, total: None)
        api.wait_for_model("tiny", state="degraded")  # the new version is seen, and being started
        for path in ("/healthz", "/readyz", "/models", "/metrics"):
            assert api.get(path).status == 200
        assert api.post("/predict", BODY).json()["version"] == "1"
    api.wait_for_model("tiny", version="2", state="serving")


def test_lanes_dead_and_their_leader_stopped_is_not_serving_and_passes(api: Server) -> None:
    before = api.post("/predict", BODY).json()
    roles = api.pids_by_role()
    os.kill(roles["leader"][0], signal.SIGSTOP)
    for pid in roles["lane"]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: api.get("/models/tiny").json()["state"] != "serving", within_s=40, what="another state")
    api.wait_for_model("tiny", state="serving")
    assert api.post("/predict", BODY).json() == before
    assert api.pids_by_role()["web"] == roles["web"]


def test_a_stopped_leader_whose_lanes_answer_is_left_alone(api: Server) -> None:
    roles = api.pids_by_role()
    with stopped(roles["leader"][0]):
        assert api.post("/predict", BODY).status == 200
    assert api.pids_by_role()["leader"] == roles["leader"]


def weights(tmp_path: Path) -> Path:
    (digest,) = [path for path in (tmp_path / "api" / "store").iterdir() if len(path.name) == 64]
    return digest / "model.safetensors"


def expect_the_same_again(api: Server, file: Path, whole: bytes, before: Any) -> None:
    wait_until(lambda: file.exists() and file.read_bytes() == whole, within_s=60, what="a whole copy")
    wait_until(lambda: api.post("/predict", BODY).status == 200, within_s=60)
    assert api.post("/predict", BODY).json() == before


def test_weights_cut_short_under_a_lane_are_fetched_again(tmp_path: Path, api: Server) -> None:
    before, file = api.post("/predict", BODY).json(), weights(tmp_path)
    whole = file.read_bytes()
    os.truncate(file, 4096)
    expect_the_same_again(api, file, whole, before)


def test_weights_overwritten_in_place_are_noticed_and_fetched_again(tmp_path: Path, api: Server) -> None:
    before, file = api.post("/predict", BODY).json(), weights(tmp_path)
    whole = file.read_bytes()
    with file.open("r+b") as stream:
        stream.seek(-64, os.SEEK_END)
        stream.write(bytes(64))
    expect_the_same_again(api, file, whole, before)


def test_its_memory_is_bounded_by_its_estimate(api: Server, tiny_author: Author) -> None:
    roles = api.pids_by_role()
    for pid in [*roles["leader"], *roles["lane"]]:
        line = next(x for x in Path(f"/proc/{pid}/limits").read_text().splitlines() if x.startswith("Max data size"))
        assert 2**30 < int(line.split()[3]) < 2**33
