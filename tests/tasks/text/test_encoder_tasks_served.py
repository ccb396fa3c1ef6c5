"""The tasks on an encoder on the running server: problems that point, the cache, jobs of their kind, OpenAPI."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue.building import change
from tests.rigs.author import Author
from tests.rigs.server import Server, server
from tests.rigs.taught_models import TAUGHT

pytestmark = pytest.mark.integration
TYPES = ["input_ids", "token_type_ids", "attention_mask"]
BODIES: dict[str, dict[str, Any]] = {
    "entities": {"inputs": ["Ada Lovelace lived in London."], "parameters": {"aggregation_strategy": "max"}},
    "answers": {"inputs": {"question": "Who said so?", "context": "The bridge opens on Monday, the mayor said."}},
    "inference": {"inputs": [["A man plays the piano.", "Somebody makes music."], "The man is old."]},
    "topics": {"inputs": "Stir the soup for an hour.", "parameters": {"candidate_labels": ["cooking", "travel"]}},
    "words": {"inputs": ["The [MASK] opens on Monday."], "parameters": {"targets": ["bridge", "train"]}},
    "features": {"inputs": ["Paris", "London"]},
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    author = Author(tmp_path_factory.mktemp("store"))
    folders = {name: tmp_path_factory.mktemp(name) for name in TAUGHT}
    for name, (task, teach) in TAUGHT.items():
        teach(folders[name])
        author.publish(folders[name], name, task=task)
    author.publish(folders["inference"], "topics", task="zero-shot-classification")
    author.publish(folders["words"], "features", task="feature-extraction")
    for name in ("entities", "words", "answers"):
        author.publish(encoded_apart(folders[name]), f"{name}-apart", task=TAUGHT[name][0])
    where = tmp_path_factory.mktemp("server")
    with server(where, MODEL_API_EFS_ROOT=author.layout.root, MODEL_API_CACHE="memory") as api:
        api.wait_until_ready()
        yield api


def encoded_apart(folder: Path) -> Path:
    """The same model, with a tokenizer that the web process must not run, because of a pattern that changes nothing."""
    apart = folder.with_name(f"{folder.name}-apart")
    shutil.copytree(folder, apart)
    own = json.loads((apart / "tokenizer.json").read_text())["normalizer"]
    odd = {"type": "Replace", "pattern": {"Regex": "(q+)+$"}, "content": "q"}
    change("tokenizer.json", normalizer={"type": "Sequence", "normalizers": [odd, own]})(apart)
    change("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast", model_input_names=TYPES)(apart)
    return apart


@pytest.mark.parametrize("name", ["entities", "words", "answers"])
def test_a_tokenizer_that_runs_apart_changes_nothing(api: Server, name: str) -> None:
    here, apart = (api.post("/predict", {**BODIES[name], "model": model}) for model in (name, f"{name}-apart"))
    assert apart.status == 200, apart.body
    assert apart.json()["predictions"] == here.json()["predictions"]
    refused = api.post("/predict", {"model": f"{name}-apart", "inputs": 7})
    assert refused.status == 422


@pytest.mark.parametrize("name", BODIES)
def test_a_cached_answer_is_the_same_to_the_byte(api: Server, name: str) -> None:
    body = {"model": name, **BODIES[name]}
    first, second = api.post("/predict", body, **{"Cache-Control": "no-cache"}), api.post("/predict", body)
    assert first.status == 200, first.body
    assert "age" not in first.headers
    assert int(second.headers["age"]) < 60
    assert first.body == second.body
    wanted = len(BODIES[name]["inputs"]) if isinstance(BODIES[name]["inputs"], list) else 1
    assert len(first.json()["predictions"]) == wanted


@pytest.mark.parametrize(
    ("name", "change", "pointer"),
    [
        ("entities", {"inputs": {"text": "a"}}, "/inputs"),
        ("entities", {"parameters": {"aggregation_strategy": "best"}}, "/parameters/aggregation_strategy"),
        ("answers", {"inputs": "when?"}, "/inputs"),
        ("answers", {"inputs": {"question": "", "context": "a"}}, "/inputs/question"),
        ("inference", {"inputs": [["a", "b", "c"]]}, "/inputs/0"),
        ("inference", {"inputs": {"text": "a", "text_pair": 3}}, "/inputs/text_pair"),
        ("topics", {"parameters": {}}, "/parameters/candidate_labels"),
        ("topics", {"parameters": {"candidate_labels": []}}, "/parameters/candidate_labels"),
        ("words", {"inputs": ["The bridge opens."]}, "/inputs/0"),
        ("words", {"inputs": ["[MASK] or [MASK]"]}, "/inputs/0"),
        ("features", {"inputs": ["a", 3]}, "/inputs/1"),
    ],
)
def test_what_is_wrong_is_pointed_at(api: Server, name: str, change: dict[str, Any], pointer: str) -> None:
    refused = api.post("/predict", {"model": name, **BODIES[name], **change})
    assert refused.status == 422, refused.body
    assert refused.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in refused.json()["errors"]] == [pointer]


def test_what_they_take_and_give_is_in_the_contract(api: Server) -> None:
    schemas = api.get("/openapi.json").json()["components"]["schemas"]
    for name in ("TokenParameters", "AnsweringParameters", "ZeroShotParameters", "FillingParameters"):
        assert schemas[name]["properties"]["truncate"]["description"]
    assert {"Entity", "ContextAnswer", "ZeroShot", "Filling"} <= schemas.keys()
