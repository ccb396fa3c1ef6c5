"""Pickled weights become safetensors in a process that can do nothing else."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from model_api.publishing.commands.main import main as model_api
from tests.conversion.test_tensorflow import convert
from tests.rigs.models import tiny_model
from tests.rigs.project import ROOT


def pickled(folder: Path, seed: int = 1) -> dict[str, torch.Tensor]:
    """A model folder as it was saved before safetensors; its tensors."""
    tensors: dict[str, torch.Tensor] = load_file(tiny_model(folder, seed) / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    return tensors


def assert_equal(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert got.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor), name


def test_a_folder_of_old_is_converted_and_can_be_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "old", tmp_path / "out"
    tensors = pickled(folder)
    torch.save({"lr": 1}, folder / "optimizer.pt")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Path))
    (folder / "tf_model.h5").write_bytes(b"x")
    done = convert(folder, out)
    assert done.returncode == 0, done.stderr
    assert f"{len(tensors)} tensors, each compared" in done.stdout
    assert "left out:" in done.stdout
    assert_equal(load_file(out / "model.safetensors"), tensors)
    assert sorted(path.name for path in out.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert model_api(["publish", "--check", str(out)]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_tied_tensors_other_types_and_an_empty_one_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    pickled(folder)
    table = torch.randn(6, 4).t()  # not contiguous
    tensors: dict[str, Any] = {"a": table, "b": table, "ids": torch.arange(3), "half": torch.ones(2).half()}
    tensors |= {"empty": torch.zeros(0, 4), "nan": torch.tensor([float("nan")]), "scalar": torch.tensor(2.0)}
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    done = convert(folder, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert got.pop("nan").isnan().all()
    tensors.pop("nan")
    assert_equal(got, tensors)


@pytest.mark.parametrize(
    ("document", "names", "note"),
    [
        ({"state_dict": {"a": torch.ones(1)}, "epoch": 3}, {"a"}, "taken from its 'state_dict'"),
        ({"module.a": torch.ones(1), "module.b": torch.ones(1)}, {"a", "b"}, "'module.' (DataParallel's)"),
        ({"x.LayerNorm.gamma": torch.ones(1), "x.LayerNorm.beta": torch.ones(1)},
         {"x.LayerNorm.weight", "x.LayerNorm.bias"}, "gamma and beta"),
        ({"a": torch.ones(1), "step": 7}, {"a"}, "left out, for they are no tensors: step"),
    ],
)  # fmt: skip
def test_what_was_changed_is_told(tmp_path: Path, document: Any, names: set[str], note: str) -> None:
    pickled(tmp_path / "old")
    torch.save(document, tmp_path / "old" / "pytorch_model.bin")
    done = convert(tmp_path / "old", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert note in done.stdout
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == names


def test_shards_become_shards_with_an_index(tmp_path: Path) -> None:
    folder, out = tmp_path / "old", tmp_path / "out"
    tensors = pickled(folder)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    halves = {"1": names[::2], "2": names[1::2]}
    for number, half in halves.items():
        torch.save({name: tensors[name] for name in half}, folder / f"pytorch_model-0000{number}-of-00002.bin")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}')
    assert convert(folder, out).returncode == 0
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(tensors)
    assert model_api(["publish", "--check", "--no-check", str(out)]) == 0


class Hostile:
    """What a pickle may do to who opens it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (subprocess.run, (["touch", str(self.mark)],))


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    pickled(tmp_path / "old")
    mark = tmp_path / "ran"
    torch.save({"a": torch.ones(1), "b": Hostile(mark)}, tmp_path / "old" / "pytorch_model.bin")
    done = convert(tmp_path / "old", tmp_path / "out")
    assert done.returncode == 3
    assert "pytorch_model.bin: it holds more than tensors, so it isn't opened" in done.stderr
    assert not mark.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "pytorch_model.bin").write_bytes(b"\x80\x02junk"), "pytorch_model.bin: "),
        (lambda f: torch.save([1, 2], f / "pytorch_model.bin"), "it holds a list, not named tensors"),
        (lambda f: torch.save({"a": 1}, f / "pytorch_model.bin"), "it holds no tensors"),
        (lambda f: torch.save({"a": torch.eye(2).to_sparse()}, f / "pytorch_model.bin"), "sparse or quantised"),
        (lambda f: (f / "pytorch_model.bin").unlink(), "holds nothing to convert"),
        (lambda f: ((f / "pytorch_model.bin").rename(f / "a.pt"), (f / "b.pt").write_bytes(b"")), "which of these"),
    ],
)
def test_what_cannot_be_converted_is_one_line(tmp_path: Path, change: Any, words: str) -> None:
    pickled(tmp_path / "old")
    change(tmp_path / "old")
    done = convert(tmp_path / "old", tmp_path / "out")
    assert done.returncode == 3
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    pickled(tmp_path / "old")
    (tmp_path / "out").mkdir()
    done = convert(tmp_path / "old", tmp_path / "out")
    assert done.returncode == 3
    assert "exists already" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


ATTEMPTS = {
    "network": "import socket; socket.socket()",
    "another program": "import subprocess; subprocess.run(['true'])",
    "writing elsewhere": "open(sys.argv[2], 'w')",
    "removing elsewhere": "import os; os.unlink(sys.argv[3])",
    "memory": "bytearray(8 * 2**30)",
    "privileges": "import ctypes; assert ctypes.CDLL(None).prctl(39, 0, 0, 0, 0) == 0",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_the_sandbox_refuses(tmp_path: Path, attempt: str) -> None:
    """`privileges` asks whether no_new_privs is set (prctl 39), which is what must not fail to be so."""
    (tmp_path / "own").mkdir()
    (tmp_path / "victim").write_text("x")
    code = (
        "import sys, pathlib\n"
        "from model_api.processes import sandbox\n"
        "missing = sandbox.close(pathlib.Path(sys.argv[1]), 2 * 2**30, 60)\n"
        "assert not missing, missing\n"
        "pathlib.Path(sys.argv[1], 'mine').write_text('x')\n"
        "print('closed', flush=True)\n"
        f"{ATTEMPTS[attempt]}\n"
        "print('done', flush=True)\n"
    )
    arguments = [tmp_path / "own", tmp_path / "elsewhere", tmp_path / "victim"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith("closed"), done.stderr
    assert "done" not in done.stdout
    assert "Error" in done.stderr
    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "victim").exists()
