"""Precision int8: near float32 for each family, the same bits in any batch, and something else where it can't be."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import int8_encoder
import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model_api.compute import quantised_encoder
from model_api.compute.classification_head import load_classifier
from model_api.compute.encoder import Encoder
from model_api.compute.load_encoder import load_encoder, settle_precision
from model_api.compute.quantised_encoder import QuantisedEncoder
from model_api.errors import Refused
from model_api.repository.sentence_modules import POOLINGS
from tests.needs import missing
from tests.rigs.models import minilm_folder
from tests.rigs.small_models import CONFIGS, by_transformers, random_texts, save_small_model

TEXTS = random_texts((3, 17, 1, 64, 17, 5, 33, 3))
BERT = {"model_type": "bert"}


@pytest.fixture(autouse=True)
def _needs_kernels() -> None:
    if int8_encoder.best_variant() is None:
        missing("no int8 kernels for this processor, or scripts/setup found no compiler")


def cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("family", CONFIGS)
def test_each_family_points_where_transformers_points(family: str, tmp_path: Path) -> None:
    model = save_small_model(family, tmp_path)
    encoder, reason = load_encoder(tmp_path, "int8")
    assert (encoder.precision, reason, encoder.max_tokens) == ("int8", None, 64)
    for sequence, states in zip(TEXTS, encoder.hidden_states(TEXTS), strict=True):
        assert states.shape == (len(sequence), encoder.hidden_size)
        assert cosine(states.mean(0).numpy(), by_transformers(model, sequence).mean(0).numpy()) > 0.99


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_other_precisions_are_read(stored: torch.dtype, tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    exact = Encoder.load(tmp_path, "float32").pooled(TEXTS, "mean")
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.to(stored) for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    for vector, wanted in zip(QuantisedEncoder.load(tmp_path).pooled(TEXTS, "mean"), exact, strict=True):
        assert cosine(vector, wanted) > 0.99


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(Refused, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        QuantisedEncoder.load(tmp_path)


def test_what_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["encoder.layer.0.output.dense.weight"][3, 4] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(Refused, match="not servable in int8: a weight is NaN or infinite"):
        QuantisedEncoder.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 2**15}))
    with pytest.raises(Refused, match="not servable in int8: impossible sizes"):
        QuantisedEncoder.load(tmp_path)


@pytest.mark.parametrize("length", [0, 65])
def test_impossible_lengths_are_an_error(length: int, tmp_path: Path) -> None:
    save_small_model("roberta", tmp_path)
    with pytest.raises(ValueError, match="1 to 64"):
        QuantisedEncoder.load(tmp_path).hidden_states([np.full(length, 5, np.int32)])


def test_no_texts_give_no_vectors_and_unknown_poolings_are_an_error(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    encoder = QuantisedEncoder.load(tmp_path)
    assert encoder.pooled([], "mean").shape == (0, 48)
    assert encoder.hidden_states([]) == []
    with pytest.raises(ValueError, match="unknown pooling 'none'"):
        encoder.pooled(TEXTS, "none")


@cache
def real_encoder() -> QuantisedEncoder:
    return QuantisedEncoder.load(minilm_folder())


POOL = random_texts((1, 2, 3, 5, 8, 13, 16, 17, 33, 64, 65, 128, 129, 200), 30000)


@cache
def alone(pooling: str, number: int) -> bytes:
    vector: npt.NDArray[np.float32] = real_encoder().pooled([POOL[number]], pooling)[0]
    return vector.tobytes()


@settings(max_examples=15, derandomize=True)
@given(st.lists(st.integers(0, len(POOL) - 1), min_size=2, max_size=12), st.sampled_from(POOLINGS))
def test_the_same_text_gives_the_same_bits_alone_and_in_any_batch(chosen: list[int], pooling: str) -> None:
    vectors = real_encoder().pooled([POOL[i] for i in chosen], pooling)
    for number, vector in zip(chosen, vectors, strict=True):
        assert vector.tobytes() == alone(pooling, number)


def test_a_classifier_keeps_its_labels(tmp_path: Path) -> None:
    def three_labels(config: Any) -> Any:
        config.num_labels = 3
        return transformers.AutoModelForSequenceClassification.from_config(config)

    save_small_model("roberta", tmp_path, three_labels)
    exact, _ = load_classifier(tmp_path, "float32", 3, "softmax")
    quantised, reason = load_classifier(tmp_path, "int8", 3, "softmax")
    assert (quantised.precision, reason) == ("int8", None)
    np.testing.assert_allclose(quantised.scores(TEXTS), exact.scores(TEXTS), atol=0.1)


def test_without_kernels_int8_becomes_what_auto_means_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_small_model("bert", tmp_path)
    automatic = load_encoder(tmp_path, "auto")[0].precision
    monkeypatch.setattr(quantised_encoder, "int8_encoder", None)
    encoder, reason = load_encoder(tmp_path, "int8")
    assert encoder.precision == automatic != "int8"
    assert reason == "the int8 kernels are not installed (scripts/native)"
    assert settle_precision(BERT, "float32") == ("float32", None)


def test_a_processor_without_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_encoder, "best_variant", lambda: None)
    assert settle_precision(BERT, "int8")[1] == "there are no int8 kernels for this processor"


def test_architectures_that_transformers_serves_have_no_int8() -> None:
    precision, reason = settle_precision({"model_type": "mpnet"}, "int8")
    assert precision != "int8"
    assert reason == "the int8 kernels don't know the architecture 'mpnet'"
