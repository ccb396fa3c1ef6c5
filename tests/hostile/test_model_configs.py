"""config.json, modules.json and their kind hold anything: a model, or a refusal that names the file."""

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_api.compute.architectures import Architecture, supports
from model_api.errors import Refused
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.model_folder import check_files, infer_task_of, list_files
from model_api.tasks import open_web
from model_api.tasks.contract import Limits
from tests.rigs.models import tiny_model

ANYTHING = st.recursive(
    st.sampled_from([None, True, "", "x", -1, 0, 1, 2**31, 2**63, 10**38, 1.5, 1e308, "../x", "a" * 300]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["0", "path", "type", "x"]), inner),
    max_leaves=5,
)
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
DOCUMENTS: dict[str, Any] = {
    "config.json": None,  # as the small model has it
    "modules.json": MODULES,
    "1_Pooling/config.json": {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True},
    "tokenizer_config.json": {"model_max_length": 512, "do_lower_case": True},
    "sentence_bert_config.json": {"max_seq_length": 256},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), seed=1)


def write(folder: Path, name: str, document: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document))


def spoilt(data: st.DataObject, document: Any) -> Any:
    """`document` with one place of it replaced by anything."""
    if not isinstance(document, dict | list) or not document or data.draw(st.integers(0, 4)) == 0:
        return data.draw(ANYTHING)
    key = data.draw(st.sampled_from(sorted(document) if isinstance(document, dict) else range(len(document))))
    changed = copy.deepcopy(document)
    changed[key] = spoilt(data, document[key])
    return changed


def open_as(task: str) -> Callable[[Path], object]:
    manifest = Manifest("m", "1", task, (FileEntry("config.json", 1, "0" * 64),), 0)
    return lambda folder: open_web(folder, manifest, Limits(1000))


def judge(folder: Path) -> object:
    files = list_files(folder)
    return check_files(files), infer_task_of(files)


@pytest.mark.parametrize(
    "read", [judge, open_as("embedding"), open_as("text-classification"), open_as("summarization")],
    ids=["judge", "embedding", "text-classification", "summarization"],
)  # fmt: skip
@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(data=st.data())
def test_any_place_replaced_by_anything_is_served_or_refused(
    folder: Path, read: Callable[[Path], object], data: st.DataObject
) -> None:
    config = json.loads((folder / "config.json").read_text())
    name = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    originals = {**DOCUMENTS, "config.json": config}
    try:
        for each, document in originals.items():
            write(folder, each, spoilt(data, document) if each == name else document)
        with contextlib.suppress(Refused):
            assert read(folder) is not None
    finally:
        write(folder, "config.json", config)


@given(data=st.data())
@settings(max_examples=200)
def test_any_architecture_is_refused_or_has_sizes_that_fit(data: st.DataObject) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    usual = {"model_type": "bert", "vocab_size": 10, "layer_norm_eps": 1e-12, "hidden_act": "gelu", **sizes}
    config = spoilt(data, usual)
    if not isinstance(config, dict):
        return
    with contextlib.suppress(Refused):
        if supports(config):
            architecture = Architecture.from_config(config)
            assert architecture.hidden_size % architecture.n_heads == 0
