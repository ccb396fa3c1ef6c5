"""BERT's TensorFlow checkpoint, written by TensorFlow itself (see make_tiny_bert.py), becomes a model that serves."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.publishing.commands.main import main as model_api
from scripts.conversion.bert import transformers_name
from scripts.conversion.checkpoint import BadCheckpoint, Checkpoint
from scripts.conversion.crc32c import crc32c
from tests.conversion.make_tiny_bert import shapes, values
from tests.rigs.project import ROOT

TINY = Path(__file__).parent / "tiny_bert"
INDEX = (TINY / "bert_model.ckpt.index").read_bytes()


def convert(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "scripts" / "convert", folder, out], capture_output=True, text=True, check=False)


def test_every_variable_is_read_as_tensorflow_wrote_it() -> None:
    checkpoint = Checkpoint(TINY / "bert_model.ckpt")
    assert checkpoint.entries.keys() == shapes().keys()
    for name, shape in shapes().items():
        assert np.array_equal(checkpoint.read(name), values(name, shape)), name


def test_transformers_finds_every_tensor_where_it_looks_for_it(tmp_path: Path) -> None:
    import torch
    from transformers import BertForPreTraining

    done = convert(TINY, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "46 tensors, each compared; checksums verified; 2 left out" in done.stdout
    model, notes = BertForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not notes["unexpected_keys"]
    assert not [name for name in notes["missing_keys"] if "decoder" not in name]  # tied to the word table
    there = model.state_dict()
    for name, shape in shapes().items():
        known = transformers_name(name)
        if known is not None:
            new_name, transposed = known
            wanted = values(name, shape)
            assert torch.equal(there[new_name], torch.from_numpy((wanted.T if transposed else wanted).copy())), name
    assert (
        json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["do_lower_case"] is False
    )  # it has "The"


def test_the_result_can_be_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(TINY, tmp_path / "out").returncode == 0
    assert model_api(["publish", "--check", str(tmp_path / "out")]) == 0
    out = capsys.readouterr()
    assert "nothing is wrong with it" in out.out
    assert "embedding" in out.out
    assert "loaded and tried here" in out.err


def test_a_classifier_keeps_its_head() -> None:
    assert transformers_name("output_weights") == ("classifier.weight", False)
    assert transformers_name("bert/encoder/layer_11/attention/self/query/kernel") == (
        "bert.encoder.layer.11.attention.self.query.weight",
        True,
    )
    assert transformers_name("bert/encoder/layer_1/output/dense/kernel/AdamWeightDecayOptimizer") is None
    with pytest.raises(KeyError):
        transformers_name("albert/embeddings/word_embeddings")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: _flip(f / "bert_model.ckpt.data-00000-of-00001", 1000), "damaged (its checksum differs)"),
        (lambda f: os.truncate(f / "bert_model.ckpt.data-00000-of-00001", 2000), "is cut short"),
        (lambda f: os.truncate(f / "bert_model.ckpt.index", 500), "not the index of a TensorFlow checkpoint"),
        (lambda f: _flip(f / "bert_model.ckpt.index", 100), "its index is damaged"),
        (lambda f: (f / "vocab.txt").unlink(), "vocab.txt is not beside the checkpoint"),
        (lambda f: (f / "bert_config.json").write_text("{"), "bert_model.ckpt: "),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(tmp_path: Path, change: object, words: str) -> None:
    folder = tmp_path / "bert"
    shutil.copytree(TINY, folder)
    assert callable(change)
    change(folder)
    done = convert(folder, tmp_path / "out")
    assert done.returncode == 3
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert"]


def _flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@given(st.lists(st.tuples(st.integers(0, len(INDEX) - 1), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_no_damage_to_an_index_is_anything_but_told(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: bool
) -> None:
    content = bytearray(INDEX)
    for place, byte in changes:
        content[place] = byte
    folder = tmp_path_factory.mktemp("index")
    (folder / "x.index").write_bytes(content[: changes[0][0]] + content[-48:] if cut else content)
    try:
        found = Checkpoint(folder / "x").entries
    except BadCheckpoint:
        return
    assert found == Checkpoint(TINY / "bert_model.ckpt").entries


@given(st.binary(max_size=300))
def test_the_checksum_is_the_one_of_its_definition(data: bytes) -> None:
    assert crc32c(b"123456789") == 0xE3069283
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_the_checksum_of_much_is_that_of_its_parts_in_turn() -> None:
    data = np.random.default_rng(1).bytes(3 * 2**20 + 77)
    crc = 0xFFFFFFFF
    table = [0] * 256
    for first in range(256):
        value = first
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table[first] = value
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    assert crc32c(data) == crc ^ 0xFFFFFFFF
