"""What is wrong with a folder is told at once, by cause, with what mends it; and is what a load would say."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model_api.errors import Refused
from model_api.publishing.commands.main import main
from model_api.publishing.draft import draft
from model_api.publishing.inspection import inspect
from model_api.repository.layout import Layout
from tests.rigs.model_folders import make_folder, safetensors_bytes, shard
from tests.rigs.models import tiny_model
from tests.rigs.stores import new_store, quiet, tree

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 133508397\n"


def told(folder: Path, **how: Any) -> dict[str, str]:
    """path -> why, of everything that is wrong."""
    return {problem.path: problem.reason for problem in inspect(folder, **how).problems}


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def _variant(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.fp16.safetensors")


def _variant_beside(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "model.fp16.safetensors")


def _adapter_alone(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def _adapter_beside(folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes({"lora": (4, 4)}))


def _shards_without_index(folder: Path) -> None:
    (shard(folder) / "model.safetensors.index.json").unlink()


def _one_deeper(folder: Path) -> None:
    shutil.move(folder, folder.with_name("inner"))
    folder.mkdir()
    shutil.move(folder.with_name("inner"), folder / "mini")


def _backslashes(folder: Path) -> None:
    (folder / "1_Pooling" / "config.json").rename(folder / "1_Pooling\\config.json")


def _second_copy(folder: Path) -> None:
    make_folder(folder / "e2", 2)


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(LFS)


def _pickle_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")


def _tensorflow_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    for name in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.meta"):
        (folder / name).write_bytes(b"x")


def _cnn(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_CNN", "type": "sentence_transformers.models.CNN"})
    (folder / "modules.json").write_text(json.dumps(modules))


def _unknown_pooling(folder: Path) -> None:
    rewrite(folder / "1_Pooling" / "config.json", pooling_mode="median")


def _sub_folder_transformer(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))


CASES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no top-level weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors", "missing; accepted"),
    "a variant alone": (_variant, "model.safetensors", "doesn't read model.fp16.safetensors: rename it"),
    "a variant beside": (_variant_beside, "model.fp16.safetensors", "a load reads model.safetensors, not this"),
    "an adapter alone": (_adapter_alone, "model.safetensors", "LoRA adapter: merge it"),
    "an adapter beside": (_adapter_beside, "adapter_model.safetensors", "would be ignored: merge it"),
    "shards without index": (_shards_without_index, "model.safetensors", "is a shard, but model.safetensors.index"),
    "a folder deeper": (_one_deeper, "config.json", "one folder deeper, in mini/: publish that folder"),
    "backslashes": (_backslashes, "1_Pooling\\config.json", "rename it to 1_Pooling/config.json"),
    "a second copy inside": (_second_copy, "e2/config.json", "second model inside this one"),
    "a Git LFS pointer": (_pointer, "model.safetensors", "git lfs pull"),
    "a pickle alone": (_pickle_alone, "pytorch_model.bin", "scripts/convert DIR OUT"),
    "TensorFlow alone": (_tensorflow_alone, "bert_model.ckpt.index", "scripts/convert DIR OUT"),
    "a module that isn't served": (_cnn, "modules.json", "module CNN is not served"),
    "an unknown pooling": (_unknown_pooling, "1_Pooling/config.json", "not all of cls, max, mean"),
    "a transformer elsewhere": (_sub_folder_transformer, "0_Transformer/config.json", "missing"),
    "code": (lambda f: (f / "modeling_x.py").write_text("x"), "modeling_x.py", "code, which is never run"),
    "an archive": (lambda f: (f / "all.zip").write_bytes(b"PK"), "all.zip", "an archive; unpack it"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_cause_is_told_by_name(tmp_path: Path, case: str) -> None:
    change, path, words = CASES[case]
    folder = make_folder(tmp_path / "m")
    change(folder)
    found = told(folder)
    assert words in found[path], found
    with pytest.raises(Refused):
        draft(folder, "mini", quiet)


@pytest.mark.parametrize("place", ["", "1_Pooling", "pool", "a/b"])
def test_pooling_is_where_modules_json_says(tmp_path: Path, place: str) -> None:
    from model_api.tasks.text.embedding import Sentences

    folder = make_folder(tmp_path / "m")
    if place:
        target = folder / place
        target.parent.mkdir(exist_ok=True)
        (folder / "1_Pooling").rename(target)
        modules = json.loads((folder / "modules.json").read_text())
        modules[1]["path"] = place
        (folder / "modules.json").write_text(json.dumps(modules))
    assert told(folder) == {}
    assert Sentences.read(folder, {}).poolings == ("mean",)


@pytest.mark.parametrize(
    ("task", "option", "words"),
    [
        ("embedding", "poolin", "unknown option 'poolin', did you mean 'pooling'?"),
        ("embedding", "truncat", "did you mean 'truncate'?"),
        ("embedding", "labels", "unknown option 'labels'; embedding knows:"),
        ("extractive-summarization", "normalize", "unknown option 'normalize'"),
    ],
)
def test_an_option_that_no_load_reads_is_refused(tmp_path: Path, task: str, option: str, words: str) -> None:
    folder = make_folder(tmp_path / "m")
    assert words in told(folder, task=task, options={option: "x"})[""]


@pytest.mark.parametrize(
    ("config", "task", "words"),
    [
        ({}, "summarization", "BertModel is an encoder alone, which is no model for summarization"),
        ({}, "text-classification", "BertModel is no model for text-classification"),
        (
            {"model_type": "bart", "architectures": ["BartModel"], "is_encoder_decoder": True},
            "embedding",
            "encoder with a decoder",
        ),
        ({}, "sumarization", "unknown task 'sumarization', did you mean 'summarization'?"),
        ({"architectures": ["WeirdNet"]}, None, "no task is known for architecture WeirdNet"),
    ],
)
def test_a_task_that_the_model_is_not_made_for_is_refused(
    tmp_path: Path, config: dict[str, Any], task: str | None, words: str
) -> None:
    folder = make_folder(tmp_path / "m", sentence_transformers=False)
    rewrite(folder / "config.json", **config)
    assert any(words in reason for reason in told(folder, task=task).values())


def test_labels_must_fit_the_heads_outputs(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", sentence_transformers=False)
    tensors = {"classifier.weight": (3, 32), "bert.embeddings.word_embeddings.weight": (8, 32)}
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    rewrite(folder / "config.json", architectures=["BertForSequenceClassification"])
    assert told(folder, options={"labels": ["a", "b", "c"]}) == {}
    assert "names 2 classes, the model has 3 outputs" in told(folder, options={"labels": ["a", "b"]})[""]
    rewrite(folder / "config.json", id2label={"0": "a", "1": "b"})
    assert "id2label names 2 classes, the model has 3" in told(folder)["config.json"]


def test_a_bare_encoders_author_hears_of_the_choice(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", sentence_transformers=False)
    (note,) = inspect(folder).notes()
    assert "[CLS]" in note
    assert "--option pooling=mean" in note
    assert inspect(folder, options={"pooling": "cls"}).notes() == ()


def test_what_no_load_reads_is_told(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "README.md").write_text("read me")
    (note,) = (note for note in inspect(folder).notes() if "no load reads" in note)
    assert "trainer_state.json" in note
    assert "README" not in note


OTHERS = ("pytorch_model.bin", "tf_model.h5", "rust_model.ot", "flax_model.msgpack", "openvino/openvino_model.xml")


def clone_of_a_hub_repository(folder: Path) -> Path:
    """As git clones it: every framework's weights beside each other."""
    make_folder(folder)
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    make_folder(folder / "onnx")
    (folder / "onnx" / "model.safetensors").rename(folder / "onnx" / "model.onnx")
    return folder


def test_check_tells_all_at_once_and_what_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = clone_of_a_hub_repository(tmp_path / "m")
    assert main(["publish", "--check", str(folder)]) == 3
    out = capsys.readouterr().out
    for name in (*OTHERS, "onnx"):
        assert name in out
    assert "what mends all of it:" in out
    excludes = out.splitlines()[-1].split()
    # The line is made to be copied: with it nothing is wrong, and what is published is the model alone.
    command = [word.strip("'") for word in excludes]
    assert main(["publish", "--check", str(folder), *command]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    patterns = command[1::2]
    assert tree(make_folder(tmp_path / "plain")).keys() == draft(folder, "mini", quiet, exclude=patterns).files.keys()


def test_a_publish_counts_what_else_is_wrong(tmp_path: Path) -> None:
    folder = clone_of_a_hub_repository(tmp_path / "m")
    with pytest.raises(Refused, match=r"and \d+ more: scripts/publish --check .*/m tells all"):
        draft(folder, "mini", quiet)


def test_check_needs_a_folder_and_writes_nothing(layout_root: Path, tmp_path: Path) -> None:
    before = tree(layout_root)
    assert main(["publish", "--check", str(make_folder(tmp_path / "m")), "--root", str(layout_root)]) == 0
    assert tree(layout_root) == before
    with pytest.raises(SystemExit):
        main(["publish", "--check"])


@pytest.fixture
def layout_root(tmp_path: Path) -> Path:
    return new_store(tmp_path / "efs").root


def test_a_dry_run_tells_what_would_happen(
    layout_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_folder(tmp_path / "1", 1), make_folder(tmp_path / "2", 2)
    root = ["--model", "mini", "--root", str(layout_root)]

    def dry_run(folder: Path, *more: str) -> str:
        before = tree(layout_root)
        assert main(["publish", str(folder), "--dry-run", *root, *more]) == 0
        assert tree(layout_root) == before
        return capsys.readouterr().out

    assert dry_run(one) == "mini: a new model; version 1 would be stable\n"
    assert main(["publish", str(one), *root]) == 0
    capsys.readouterr()
    assert dry_run(one) == "mini: version 1 is this very content and whole; it would be stable\n"
    assert dry_run(two, "--canary", "5") == "mini: version 2 would be canary for 5 % of callers (stable now: 1)\n"
    (Layout(layout_root).version("mini", "1") / "config.json").unlink()
    assert "damaged (1 files would be put right)" in dry_run(one)


@pytest.mark.loads
def test_a_publish_loads_the_model_as_an_instance_would(
    layout_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, probes = tiny_model(tmp_path / "tiny", 1), tmp_path / "probes.json"
    command = ["publish", str(folder), "--model", "tiny", "--root", str(layout_root), "--probe", str(probes)]
    probes.write_text('[{"inputs": ["the cat"], "outputs": [[1, 2, 3]]}]')
    assert main(command) == 3
    assert "probe 0, input 0: output differs" in capsys.readouterr().err
    assert not Layout(layout_root).versions("tiny").exists()
    assert main([*command, "--no-check"]) == 0
    out = capsys.readouterr()
    assert "published as version 1" in out.out
    assert "loaded" not in out.err
    assert main([*command[:-2], "--option", "pooling=mean"]) == 0
    assert "loaded and tried here in" in capsys.readouterr().err


@pytest.mark.loads
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--option", "pooling=middle"], "option pooling: input should be 'cls', 'max', 'mean'"),
        (["--option", "max_tokens=many"], "option max_tokens: input should be a valid integer"),
    ],
)
def test_check_tells_what_the_load_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    folder = tiny_model(tmp_path / "tiny", 1)
    assert main(["publish", "--check", str(folder), *options]) == 3
    assert words in capsys.readouterr().out


@pytest.mark.loads
def test_structure_that_is_whole_but_no_model_is_refused_by_the_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert main(["publish", "--check", str(folder)]) == 3
    out = capsys.readouterr().out
    assert "2 refusals" in out  # the pickle, and what a load says of the rest
    assert "every instance would refuse it" in out
    assert "what mends some of it:" in out


def test_a_cache_with_shared_blobs_as_huggingface_hub_lays_it_out(tmp_path: Path) -> None:
    from huggingface_hub.utils import _shared_blobs

    plain = make_folder(tmp_path / "plain")
    cache = tmp_path / "hub"
    for repository in ("models--org--mini", "models--org--fork"):  # the second links to what the first brought
        blobs, snapshot = cache / repository / "blobs", cache / repository / "snapshots" / "abc"
        blobs.mkdir(parents=True)
        for number, (path, content) in enumerate(tree(plain).items()):
            blob = blobs / f"etag{number}"
            blob.write_bytes(content)
            if path.endswith(".safetensors"):
                assert _shared_blobs.publish_blob_to_shared_store(
                    blob_path=str(blob), xet_hash="ab" * 32, cache_dir=cache, expected_size=len(content)
                )
                assert blob.is_symlink()
            link = snapshot / path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path(*[".."] * (len(Path(path).parts) + 1), "blobs", blob.name))
        made = draft(snapshot, "mini", quiet)
        assert made.manifest.digest == draft(plain, "mini", quiet).manifest.digest
    (cache / "blobs" / _shared_blobs.SHARED_BLOBS_MARKER_NAME).unlink()
    with pytest.raises(Refused, match="points outside"):
        draft(cache / "models--org--mini" / "snapshots" / "abc", "mini", quiet)


def test_a_zip_made_on_a_mac_brings_nothing_along(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._model.safetensors").write_bytes(b"x")
    assert told(folder) == {}
    assert subprocess.run(["ls", folder], capture_output=True, check=True).stdout
