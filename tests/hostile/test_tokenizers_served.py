"""A tokenizer that panics, grows without end or takes for ever costs its own model's callers, and nobody else."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.rigs.api import Response
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import Server, server

pytestmark = pytest.mark.integration
TEXTS = ["the cat", "one dog, published twice!", "tea and rain " * 40]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _normalizers(*parts: Any) -> Callable[[dict[str, Any]], None]:
    def spoil(document: dict[str, Any]) -> None:
        document["normalizer"] = {"type": "Sequence", "normalizers": [document["normalizer"], *parts]}

    return spoil


def _many_words(document: dict[str, Any]) -> None:
    document["model"]["vocab"] |= {f"zz{i}": 500 + i for i in range(140_000)}


def _give_rows(model: Path, n_rows: int) -> None:
    """Ids beyond the table would be refused."""
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": n_rows}))
    tensors = load_file(model / "model.safetensors")
    (name,) = [name for name in tensors if "word_embeddings" in name]
    table = np.zeros((n_rows, tensors[name].shape[1]), np.float32)
    table[: len(tensors[name])] = tensors[name]
    save_file({**tensors, name: table}, model / "model.safetensors", metadata={"format": "pt"})


SPOILT: dict[str, Callable[[dict[str, Any]], None]] = {
    "panics": _normalizers(_replace({"Regex": "^(?:§|§)*a"}, "b")),
    "grows": _normalizers(*[_replace({"String": "§"}, "§§")] * 26),
    "backtracks": _normalizers(_replace({"Regex": "(x+x+)+y"}, "b")),
    "large": _many_words,
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "efs").mkdir()
    author = Author(folder / "efs")
    author.publish(tiny_model(folder / "tiny", seed=1), "tiny")
    for name, spoil in SPOILT.items():
        model = tiny_model(folder / name, seed=1)
        # By its own class the model's library would put another normalizer there.
        (model / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
        if name == "large":
            _give_rows(model, 141_000)
        document = json.loads((model / "tokenizer.json").read_text())
        spoil(document)
        (model / "tokenizer.json").write_text(json.dumps(document))
        author.publish(model, name)
    with server(folder / "api", MODEL_API_EFS_ROOT=author.layout.root, MODEL_API_LANES=1) as running:
        running.wait_until_ready(120)
        for name in SPOILT:
            running.wait_for_model(name, within_s=120, state="serving")
        yield running


def ask(api: Server, model: str, inputs: Any) -> Response:
    return api.post("/predict", {"model": model, "inputs": inputs})


def expect_others_well(api: Server, web: list[int]) -> None:
    assert api.get("/healthz").status == 200
    assert ask(api, "tiny", "the cat").status == 200
    assert api.pids_by_role()["web"] == web


@pytest.mark.parametrize("name", SPOILT)
def test_ordinary_texts_are_answered_as_by_the_web_process_itself(api: Server, name: str) -> None:
    here, apart = ask(api, "tiny", TEXTS), ask(api, name, TEXTS)
    assert apart.status == 200, apart.body
    assert apart.json()["predictions"] == here.json()["predictions"]
    long = {"model": name, "inputs": ["the cat " * 600], "parameters": {"truncate": True}}
    assert (
        api.post("/predict", long).json()["predictions"]
        == (api.post("/predict", {**long, "model": "tiny"}).json()["predictions"])
    )
    assert ask(api, name, ["  "]).json()["errors"] == ask(api, "tiny", ["  "]).json()["errors"]


def test_a_panic_is_an_error_of_that_request(api: Server) -> None:
    web = api.pids_by_role()["web"]
    answer = ask(api, "panics", "§" * 40 + "yab")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "tokenizer failed" in answer.json()["detail"]
    expect_others_well(api, web)
    assert ask(api, "panics", "the cat").status == 200


def test_growth_without_end_ends_that_process_alone(api: Server) -> None:
    web = api.pids_by_role()["web"]
    answer = ask(api, "grows", "§" * 64)
    assert answer.status in (503, 504)  # its memory's bound, or its deadline: whichever it comes to first
    assert "tokenizer" in answer.json()["detail"]
    expect_others_well(api, web)
    assert ask(api, "grows", "the cat").status == 200  # by a process that was started anew


def test_a_pattern_that_never_ends_is_ended(api: Server) -> None:
    """Whatever the library does with it: an error of its own at some count of steps, or our deadline."""
    web = api.pids_by_role()["web"]
    assert ask(api, "backtracks", "x" * 50_000).status in (500, 504, 422)
    expect_others_well(api, web)
    assert ask(api, "backtracks", "the cat").status == 200


def test_what_is_apart_goes_first_when_memory_runs_out(api: Server) -> None:
    roles = api.pids_by_role()

    def scores(role: str) -> set[int]:
        return {int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in roles[role]}

    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert scores("web") == {own}
    assert scores("leader") == {500}
    assert scores("lane") == {500, 700}  # 700: the processes that encode


def test_it_is_told_why(api: Server) -> None:
    told = {r["model"]: r["reason"] for r in api.log_records() if "process of its own" in r["message"]}
    assert told.keys() == SPOILT.keys()
    assert "normalizer Replace: pattern" in told["panics"]
    assert "131072" in told["large"]


def test_a_stopped_one_is_replaced(api: Server) -> None:
    roles = api.pids_by_role()
    encoders = [pid for pid in roles["lane"] if Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "700"]
    for pid in encoders:
        os.kill(pid, 19)
    assert ask(api, "large", "the cat").status == 504
    expect_others_well(api, roles["web"])
    for name in SPOILT:  # the others' first callers meet theirs
        answer = ask(api, name, "the cat")
        assert answer.status == (200 if name == "large" else 504)
        assert ask(api, name, "the cat").status == 200
