import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_api.compute.weights import WeightReader, read_config
from model_api.errors import Refused

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "ids": torch.arange(3)}


def save_sharded(folder: Path, second: str = "model-2.safetensors") -> None:
    save_file({"a": TENSORS["a"]}, folder / "model-1.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "model-2.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": second}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("sharded", [False, True])
def test_tensors_are_read_from_one_file_or_from_shards(sharded: bool, tmp_path: Path) -> None:
    if sharded:
        save_sharded(tmp_path)
    else:
        save_file(TENSORS, tmp_path / "model.safetensors")
    reader = WeightReader(tmp_path)
    assert "a" in reader
    assert "c" not in reader
    assert torch.equal(reader.tensor("a", (2, 3)), TENSORS["a"])
    copy = reader.copy("b", (4,))
    assert copy.dtype == torch.float32
    assert torch.equal(copy, torch.ones(4))


def test_what_is_asked_for_wrongly_is_refused_by_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    reader = WeightReader(tmp_path)
    for name, shape, reason in (("c", (1,), "missing"), ("a", (3, 2), "shape"), ("ids", (3,), "int64")):
        with pytest.raises(Refused, match=rf"model\.safetensors: tensor '{name}'.*{reason}"):
            reader.tensor(name, shape)


def test_a_damaged_or_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"model\.safetensors: missing"):
        WeightReader(tmp_path)
    save_file(TENSORS, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    for damaged in (content[:-3], b"", b"\xff" * 100):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        with pytest.raises(Refused, match=r"model\.safetensors: no readable"):
            WeightReader(tmp_path)


@pytest.mark.parametrize("shard", ["absent.safetensors", "../outside.safetensors", "/etc/passwd"])
def test_an_absent_or_escaping_shard_is_refused_by_name(shard: str, tmp_path: Path) -> None:
    save_sharded(tmp_path, second=shard)
    with pytest.raises(Refused, match=shard):
        WeightReader(tmp_path)


def test_a_tensor_that_its_shard_lacks_is_refused(tmp_path: Path) -> None:
    save_sharded(tmp_path, second="model-1.safetensors")
    with pytest.raises(Refused, match=r"model-1\.safetensors: tensor 'b'"):
        WeightReader(tmp_path).tensor("b", (4,))


@pytest.mark.parametrize("text", [None, "{", "[]", '"x"'])
def test_an_unreadable_config_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(Refused, match=r"config\.json"):
        read_config(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(text or "{}")
    with pytest.raises(Refused, match="index"):
        WeightReader(tmp_path)
