import json
import shutil
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from model_api.compute.encoder import Encoder
from model_api.compute.encoder_shape import EncoderShape
from model_api.compute.load_encoder import read_shape
from model_api.compute.processor import choose_precision
from model_api.errors import Refused
from model_api.repository.sentence_modules import POOLINGS
from tests.rigs.models import BertSize, minilm_folder, tiny_model
from tests.rigs.small_models import CONFIGS, by_transformers, random_texts, save_small_model

PRECISIONS = ("float32", "bfloat16")
TEXTS = random_texts((3, 17, 1, 64, 17, 5, 33, 3))


@pytest.mark.parametrize("family", CONFIGS)
def test_float32_equals_transformers_in_a_batch_and_alone(family: str, tmp_path: Path) -> None:
    model = save_small_model(family, tmp_path)
    encoder = Encoder.load(tmp_path, "float32")
    assert encoder.max_tokens == 64
    batch = encoder.hidden_states(TEXTS)
    for sequence, states in zip(TEXTS, batch, strict=True):
        expected = by_transformers(model, sequence)
        assert states.shape == (len(sequence), encoder.hidden_size)
        assert (states - expected).abs().max() <= 1e-5
        assert torch.equal(states, encoder.hidden_states([sequence])[0])


@pytest.mark.parametrize("family", CONFIGS)
def test_bfloat16_points_where_transformers_points(family: str, tmp_path: Path) -> None:
    model = save_small_model(family, tmp_path)
    vectors = Encoder.load(tmp_path, "bfloat16").pooled(TEXTS, "mean")
    for sequence, vector in zip(TEXTS, vectors, strict=True):
        expected = by_transformers(model, sequence).mean(0)
        assert torch.cosine_similarity(torch.from_numpy(vector), expected, dim=0) >= 0.999


def test_a_text_that_spells_the_padding_token_keeps_the_positions_of_roberta(tmp_path: Path) -> None:
    # transformers hides such a token from no attention when the mask is all ones, but gives it no position.
    model = save_small_model("roberta", tmp_path)
    spelled = np.array([0, 9, 1, 1, 12, 2], np.int32)
    states = Encoder.load(tmp_path, "float32").hidden_states([TEXTS[0], spelled])
    assert (states[1] - by_transformers(model, spelled)).abs().max() <= 1e-5


def _places(states: torch.Tensor) -> torch.Tensor:
    return torch.arange(1, len(states) + 1, dtype=torch.float32)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_is_the_pooling_of_the_hidden_states(pooling: str, tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    encoder = Encoder.load(tmp_path, "float32")
    pooled = encoder.pooled(TEXTS, pooling)
    assert pooled.dtype == np.float32
    expected: Any = {
        "mean": lambda states: states.mean(0),
        "cls": lambda states: states[0],
        "max": lambda states: states.amax(0),
        "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
        "weightedmean": lambda states: (states.T @ _places(states)) / _places(states).sum(),
        "lasttoken": lambda states: states[-1],
    }[pooling]
    for vector, states in zip(pooled, encoder.hidden_states(TEXTS), strict=True):
        np.testing.assert_allclose(vector, expected(states).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("length", [0, 65])
def test_impossible_lengths_are_an_error(length: int, tmp_path: Path) -> None:
    save_small_model("roberta", tmp_path)
    with pytest.raises(ValueError, match="1 to 64"):
        Encoder.load(tmp_path, "float32").hidden_states([np.full(length, 5, np.int32)])


def test_no_texts_give_no_vectors(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    encoder = Encoder.load(tmp_path, "float32")
    assert encoder.pooled([], "mean").shape == (0, 48)
    assert encoder.hidden_states([]) == []


# The promise: the same text gives the same bits alone and in any batch.


@cache
def real_encoder(precision: str) -> Encoder:
    return Encoder.load(minilm_folder(), precision)


POOL = random_texts(
    (1, 2, 3, 3, 4, 5, 7, 8, 8, 9, 13, 15, 16, 17, 21, 31, 32, 33, 33, 47, 64, 65, 90, 128, 129, 200), 30000
)


@cache
def alone(precision: str, pooling: str, number: int) -> bytes:
    vector: npt.NDArray[np.float32] = real_encoder(precision).pooled([POOL[number]], pooling)[0]
    return vector.tobytes()


@settings(max_examples=15, derandomize=True)
@given(st.lists(st.integers(0, len(POOL) - 1), min_size=2, max_size=12), st.sampled_from(POOLINGS))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_text_gives_the_same_bits_alone_and_in_any_batch(
    precision: str, chosen: list[int], pooling: str
) -> None:
    vectors = real_encoder(precision).pooled([POOL[i] for i in chosen], pooling)
    for number, vector in zip(chosen, vectors, strict=True):
        assert vector.tobytes() == alone(precision, pooling, number)


# The real weights, and what a folder may hold.


def test_real_weights_equal_transformers() -> None:
    import transformers

    model = transformers.AutoModel.from_pretrained(minilm_folder()).eval()
    exact = real_encoder("float32").pooled(POOL, "mean")
    rounded = real_encoder("bfloat16").pooled(POOL, "mean")
    for sequence, vector, near in zip(POOL, exact, rounded, strict=True):
        expected = by_transformers(model, sequence).mean(0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        cosine = near @ expected / np.linalg.norm(near) / np.linalg.norm(expected)
        assert cosine >= 0.999


def test_shards_prefixes_and_old_norm_names_are_read(tmp_path: Path) -> None:
    import transformers

    whole, sharded = tmp_path / "whole", tmp_path / "sharded"
    model = save_small_model("bert", whole, transformers.BertForMaskedLM)
    model.save_pretrained(sharded, max_shard_size="40KB")
    assert (sharded / "model.safetensors.index.json").exists()
    tensors = load_file(whole / "model.safetensors")
    renamed = {
        k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    save_file(renamed, whole / "model.safetensors")
    for folder in (whole, sharded):
        states = Encoder.load(folder, "float32").hidden_states([TEXTS[1]])[0]
        assert (states - by_transformers(model.bert, TEXTS[1])).abs().max() <= 1e-5


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read(stored: torch.dtype, tmp_path: Path) -> None:
    model = save_small_model("distilbert", tmp_path)
    halves = {k: v.to(stored) for k, v in load_file(tmp_path / "model.safetensors").items()}
    save_file(halves, tmp_path / "model.safetensors")
    model.load_state_dict({k: v.float() for k, v in halves.items()}, strict=False)
    states = Encoder.load(tmp_path, "float32").hidden_states([TEXTS[1]])[0]
    assert (states - by_transformers(model, TEXTS[1])).abs().max() <= 1e-5


def test_a_missing_or_misshapen_tensor_is_refused_by_name(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("encoder.layer.1.output.dense.weight", "embeddings.word_embeddings.weight"):
        for changed, reason in (
            ({k: v for k, v in tensors.items() if k != name}, "missing"),
            (tensors | {name: tensors[name].T.contiguous()}, "shape"),
        ):
            save_file(changed, tmp_path / "model.safetensors")
            with pytest.raises(Refused, match=rf"model\.safetensors: .*{name}.*{reason}"):
                Encoder.load(tmp_path, "float32")


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mpnet"}))
    with pytest.raises(Refused, match="mpnet"):
        Encoder.load(tmp_path, "float32")


def test_warming_leaves_the_answers_as_they_are(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    encoder = Encoder.load(tmp_path, "bfloat16")
    before = encoder.pooled(TEXTS, "mean")
    encoder.warm()
    assert encoder.pooled(TEXTS, "mean").tobytes() == before.tobytes()


def test_models_have_one_shape_whatever_their_weights_and_layers(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for layers, folder in zip((1, 3), folders, strict=True):
        tiny_model(folder, seed=layers, size=BertSize(hidden=64, layers=layers, heads=4, ffn=128, vocabulary=200))
    size_bytes = (folders[0] / "model.safetensors").stat().st_size
    one, other = (read_shape(folder, "float32", size_bytes) for folder in folders)
    assert one is not None
    assert one == other == EncoderShape.from_message(json.loads(json.dumps(asdict(one))))
    assert read_shape(folders[0], "bfloat16", size_bytes) not in (None, one)
    config = json.loads((folders[0] / "config.json").read_text())
    claims = {"hidden_size": 65536, "intermediate_size": 2**24, "max_position_embeddings": 2**24}
    for key, value in claims.items():  # more than such files can hold
        (folders[0] / "config.json").write_text(json.dumps(config | {key: value}))
        assert read_shape(folders[0], "float32", size_bytes) is None
    (folders[0] / "config.json").write_text(json.dumps(config | {"model_type": "mpnet"}))
    assert read_shape(folders[0], "float32", size_bytes) is None


def test_only_the_word_table_stays_mapped(tmp_path: Path) -> None:
    """A loaded model holds one copy of its weights: the pages read from the file are given back."""
    file = tmp_path / "model.safetensors"
    shutil.copytree(minilm_folder(), tmp_path, dirs_exist_ok=True)
    encoder = Encoder.load(tmp_path, "float32")
    encoder.pooled([POOL[0]], "mean")
    resident_kb, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            resident_kb += int(line.split()[1])
    assert 0 < resident_kb < 4000  # of 90,000


def test_precision_follows_the_processor_unless_asked(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags : avx2 avx512_bf16\n")
    assert choose_precision("auto", cpuinfo) == "bfloat16"
    assert choose_precision("float32", cpuinfo) == "float32"
    cpuinfo.write_text("flags : avx2 avx512f\n")
    assert choose_precision("auto", cpuinfo) == "float32"
    assert choose_precision("bfloat16", cpuinfo) == "bfloat16"
    assert choose_precision("auto", tmp_path / "absent") == "float32"
    with pytest.raises(ValueError, match="int4"):
        choose_precision("int4", cpuinfo)
