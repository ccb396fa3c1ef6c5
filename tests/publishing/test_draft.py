"""Publishing onto a mounted store."""

import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model_api.errors import RefsConflict, Refused, RepositoryUnavailable
from model_api.publishing.changes import change_refs, init, read_refs, seal
from model_api.publishing.draft import draft, publish
from model_api.publishing.moves import promote, rollback
from model_api.publishing.removal import retire
from model_api.publishing.upload import Upload
from model_api.repository.known_tasks import TASKS
from model_api.repository.layout import Layout
from model_api.repository.manifest import Manifest
from model_api.repository.model_folder import check_files, infer_task_of, list_files
from model_api.repository.refs import Refs
from model_api.tasks import find_task
from tests.rigs.model_folders import make_folder, safetensors_bytes, shard
from tests.rigs.stores import new_store, published, quiet, tree


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


def test_init_sets_up_a_store_once(tmp_path: Path) -> None:
    assert init(tmp_path / "efs")
    before = tree(tmp_path / "efs")
    assert not init(tmp_path / "efs")
    assert tree(tmp_path / "efs") == before


def test_a_root_without_marker_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable, match="--init"):
        published(Layout(tmp_path), make_folder(tmp_path / "a"))
    assert not (tmp_path / "models").exists()


def test_a_version_holds_the_files_and_a_manifest_that_fits(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    outcome = published(layout, folder)
    there = tree(layout.version("mini", "1"))
    manifest = Manifest.from_json(there.pop("manifest.json"))
    assert there == tree(folder)
    assert (manifest.model, manifest.version, manifest.task) == ("mini", "1", "embedding")
    assert manifest.digest == outcome.ref.digest
    assert manifest.memory_bytes > manifest.size_bytes
    assert list(layout.incoming("mini").iterdir()) == []


def test_numbers_count_up_and_previous_is_kept(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        assert published(layout, make_folder(tmp_path / str(seed), seed)).ref.version == str(seed)
    refs = read_refs(layout, "mini")
    assert refs.stable is not None
    assert refs.previous is not None
    assert (refs.generation, refs.stable.version, refs.previous.version) == (3, "3", "2")


def test_the_same_content_again_changes_nothing(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    before = tree(layout.root)
    again = published(layout, make_folder(tmp_path / "b"), version="7")
    assert not again.changed
    assert again.ref.version == "1"
    assert tree(layout.root) == before


def test_a_version_is_never_overwritten(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a", 1), version="v1")
    with pytest.raises(Refused, match="never overwritten"):
        published(layout, make_folder(tmp_path / "b", 2), version="v1")


def test_retired_numbers_are_not_used_again_even_if_the_trash_is_emptied(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        published(layout, make_folder(tmp_path / str(seed), seed))
    where = retire(layout, "mini", "1")
    assert where == layout.trash("mini") / "1"
    promote(layout, "mini", "2")
    published(layout, make_folder(tmp_path / "4", 4))
    retire(layout, "mini", "3")
    subprocess.run(["rm", "-rf", layout.trash("mini")], check=True)
    with pytest.raises(Refused, match="existed"):
        published(layout, make_folder(tmp_path / "5", 5), version="3")
    assert published(layout, make_folder(tmp_path / "1", 1)).ref.version == "5"


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_what_a_ref_names_cannot_be_retired(layout: Layout, tmp_path: Path, version: str) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    published(layout, make_folder(tmp_path / "3", 3), canary_percent=5)
    with pytest.raises(Refused, match="only what no ref names"):
        retire(layout, "mini", version)


def test_canary_promote_and_rollback(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing to be a canary beside"):
        published(layout, make_folder(tmp_path / "1", 1), canary_percent=5)
    assert not layout.versions("mini").exists()
    published(layout, make_folder(tmp_path / "1", 1))
    published(layout, make_folder(tmp_path / "2", 2), canary_percent=5)
    refs = read_refs(layout, "mini")
    assert refs.canary is not None
    assert refs.stable is not None
    assert (refs.stable.version, refs.canary.version, refs.canary.percent) == ("1", "2", 5)
    refs = rollback(layout, "mini").after
    assert (refs.canary, refs.stable) == (None, read_refs(layout, "mini").stable)
    published(layout, tmp_path / "2", canary_percent=12.5)
    refs = promote(layout, "mini", None).after
    assert refs.stable is not None
    assert refs.previous is not None
    assert (refs.stable.version, refs.previous.version, refs.canary) == ("2", "1", None)
    refs = rollback(layout, "mini").after
    assert refs.stable is not None
    assert refs.stable.version == "1"


@pytest.mark.parametrize("percent", [0, -1, 100.5, float("nan")])
def test_a_percentage_out_of_range_is_refused(layout: Layout, tmp_path: Path, percent: float) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    with pytest.raises(Refused, match="percent"):
        published(layout, make_folder(tmp_path / "2", 2), canary_percent=percent)


def test_verbs_on_unknown_models_and_versions_are_refused(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "1"))
    with pytest.raises(Refused, match="no model named"):
        promote(layout, "other", "1")
    with pytest.raises(Refused, match="no version '9'"):
        promote(layout, "mini", "9")
    with pytest.raises(Refused, match="no previous version"):
        rollback(layout, "mini")
    with pytest.raises(Refused, match="no canary"):
        promote(layout, "mini", None)


Damage = Callable[[Path], object]


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)


def _lengthen(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x")


def _escape(folder: Path) -> None:
    (folder / "more.json").symlink_to("/etc/hostname")


def _lose_shard(folder: Path) -> None:
    (shard(folder) / "model-00002-of-00002.safetensors").unlink()


def _escaping_shard(folder: Path) -> None:
    (shard(folder) / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../../other/model.safetensors"}})
    )


def _pickled_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"weights": [1.0] * 100}))


@pytest.mark.parametrize(
    ("named", "damage"),
    [
        ("model.safetensors", _truncate),
        ("model.safetensors", _lengthen),
        ("model.safetensors", _pickled_safetensors),
        ("model.safetensors", lambda f: (f / "model.safetensors").unlink()),
        ("model.safetensors", lambda f: (f / "model.safetensors").write_bytes(b"")),
        ("model-00002-of-00002.safetensors", _lose_shard),
        ("../../other/model.safetensors", _escaping_shard),
        ("config.json", lambda f: (f / "config.json").write_text('{"half":')),
        ("config.json", lambda f: (f / "config.json").unlink()),
        ("tokenizer.json", lambda f: (f / "tokenizer.json").unlink()),
        ("1_Pooling/config.json", lambda f: (f / "1_Pooling/config.json").unlink()),
        ("more.json", _escape),
        ("extra", lambda f: (f / "extra").symlink_to("/etc")),
        ("gone.json", lambda f: (f / "gone.json").symlink_to("nowhere")),
        ("pipe.json", lambda f: os.mkfifo(f / "pipe.json")),
        ("pytorch_model.bin", lambda f: (f / "pytorch_model.bin").write_bytes(b"x")),
        ("training_args.pt", lambda f: (f / "training_args.pt").write_bytes(b"x")),
        ("a/b.pkl", lambda f: ((f / "a").mkdir(), (f / "a/b.pkl").write_bytes(b"x"))),
        ("tf_model.h5", lambda f: (f / "tf_model.h5").write_bytes(b"x")),
        ("flax_model.msgpack", lambda f: (f / "flax_model.msgpack").write_bytes(b"x")),
        (r"'line\nbreak.json'", lambda f: (f / "line\nbreak.json").write_text("{}")),
        ("modeling.py", lambda f: (f / "modeling.py").write_bytes(b"x")),
    ],
)
def test_a_bad_folder_is_refused_by_the_files_name_and_leaves_no_trace(
    layout: Layout, tmp_path: Path, named: str, damage: Damage
) -> None:
    damage(make_folder(tmp_path / "a"))
    before = tree(layout.root)
    with pytest.raises(Refused) as caught:
        published(layout, tmp_path / "a")
    assert caught.value.path == named
    assert tree(layout.root) == before


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        {"a": {"dtype": "F33", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, -8]}},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
        {"a": 1},
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
        },
    ],
)
def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path, header: dict[str, object]) -> None:
    folder = make_folder(tmp_path / "a")
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 12)
    with pytest.raises(Refused, match=r"model\.safetensors"):
        check_files(list_files(folder))


def test_what_an_author_excludes_stays_out(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    publish(layout, draft(folder, "mini", quiet, exclude=["*.bin"]), quiet)
    assert not (layout.version("mini", "1") / "pytorch_model.bin").exists()


def test_hidden_files_stay_out(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / ".DS_Store").write_bytes(b"x")
    published(layout, folder)
    assert not any(path.startswith(".") for path in tree(layout.version("mini", "1")))


def test_a_snapshot_in_the_hugging_face_cache_is_published_with_its_links_resolved(
    layout: Layout, tmp_path: Path
) -> None:
    plain = make_folder(tmp_path / "a")
    repo = tmp_path / "models--org--mini"
    (repo / "blobs").mkdir(parents=True)
    for number, (path, content) in enumerate(tree(plain).items()):
        (repo / "blobs" / str(number)).write_bytes(content)
        link = repo / "snapshots" / "abc" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(repo / "blobs" / str(number), link.parent))
    outcome = published(layout, repo / "snapshots" / "abc")
    assert outcome.ref.digest == draft(plain, "mini", quiet).manifest.digest
    assert not any(file.is_symlink() for file in layout.version("mini", "1").rglob("*"))
    with pytest.raises(Refused, match=r"give one of its snapshots: .*snapshots/abc"):
        published(layout, repo)


def test_another_uid_can_read_whatever_the_umask(layout: Layout, tmp_path: Path) -> None:
    layout.models.chmod(0o2775)
    os.chown(layout.models, -1, os.getgid())
    old = os.umask(0o077)
    try:
        published(layout, make_folder(tmp_path / "a"))
    finally:
        os.umask(old)
    for path in layout.models.rglob("*"):
        mode = path.stat().st_mode
        if path.is_dir():
            assert stat.S_IMODE(mode) == 0o2775, path
        else:
            assert mode & 0o444 == 0o444, path


def test_a_dead_authors_leftovers_are_removed_and_a_living_ones_are_not(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    dead = layout.incoming("mini") / "dead"
    dead.mkdir()
    (dead / "model.safetensors").write_bytes(b"half")
    with Upload(layout, draft(make_folder(tmp_path / "2", 2), "mini", quiet).manifest) as alive:
        published(layout, make_folder(tmp_path / "3", 3))
        assert alive.folder.is_dir()
        assert not dead.exists()
    assert list(layout.incoming("mini").iterdir()) == []


def test_a_version_whose_author_died_before_naming_it_is_completed(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    before = layout.refs("mini").read_bytes()
    published(layout, make_folder(tmp_path / "2", 2))
    layout.refs("mini").write_bytes(before)  # as if the author of 2 had died just before
    assert published(layout, make_folder(tmp_path / "3", 3)).ref.version == "3"
    layout.refs("mini").write_bytes(before)
    outcome = published(layout, tmp_path / "2")
    assert outcome.changed
    assert outcome.ref.version == "2"


def test_a_change_by_somebody_without_the_lock_is_a_conflict(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    other = Refs(generation=9)

    def change(refs: Refs) -> Refs:
        layout.refs("mini").write_text(other.to_json())
        return Refs(refs.generation + 1)

    with pytest.raises(RefsConflict):
        change_refs(layout, "mini", "publish", change)
    assert read_refs(layout, "mini") == other


def test_a_file_that_changes_while_it_is_published_is_refused(layout: Layout, tmp_path: Path) -> None:
    made = draft(make_folder(tmp_path / "a", 1), "mini", quiet)
    make_folder(tmp_path / "a", 2)
    with pytest.raises(Refused, match="changed while it was being published"):
        publish(layout, made, quiet)
    assert read_refs(layout, "mini") == Refs(0)
    assert list(layout.incoming("mini").iterdir()) == []


@pytest.mark.parametrize(
    ("config", "task"),
    [
        ({"architectures": ["RobertaForSequenceClassification"]}, "text-classification"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "summarization"),
        ({"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "embedding"),
        ({"architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta"}, "embedding"),
        ({"model_type": "distilbert"}, "embedding"),
    ],
)
def test_the_task_is_inferred(tmp_path: Path, config: dict[str, object], task: str) -> None:
    folder = make_folder(tmp_path / "a", sentence_transformers=False)
    (folder / "config.json").write_text(json.dumps(config))
    assert infer_task_of(list_files(folder)) == task


@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "LlamaModel", "WeirdNet"])
def test_an_unknown_architecture_needs_a_task(tmp_path: Path, architecture: str) -> None:
    folder = make_folder(tmp_path / "a", sentence_transformers=False)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "gpt2"}))
    with pytest.raises(Refused, match="no task is known"):
        infer_task_of(list_files(folder))


def test_a_vocabulary_will_do_where_the_config_vouches_for_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"word{n}\n" for n in range(8)))
    check_files(list_files(folder))
    (folder / "vocab.txt").write_text("".join(f"word{n}\n" for n in range(7)))
    with pytest.raises(Refused, match="7 entries"):
        check_files(list_files(folder))


def test_seal_is_for_plain_folders(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    with pytest.raises(Refused, match="published by version"):
        seal(layout, "mini")
    make_folder(layout.model("loose"))
    seal(layout, "loose")
    check = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=layout.model("loose"), check=False)
    assert check.returncode == 0


def test_a_second_copy_that_nested_is_not_sealed(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(layout.model("loose"), 1)
    seal(layout, "loose")
    shutil.copytree(make_folder(tmp_path / "e2", 2), folder / "e2")  # scp -r e2 host:/efs/models/loose, a second time
    with pytest.raises(Refused, match=r"e2/.*config\.json: of a second model inside this one"):
        seal(layout, "loose")


def test_every_task_that_authors_may_name_has_a_module() -> None:
    assert [find_task(name).parameters for name in TASKS]


def test_an_unknown_task_is_refused(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="unknown task 'magic'"):
        published(layout, make_folder(tmp_path / "a"), task="magic")


def test_two_authors_at_once_lose_nothing(layout: Layout, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from tests.rigs.stores import published\n"
        "from model_api.repository.reader import Layout\n"
        "for folder in sys.argv[2:]:\n"
        "    published(Layout(pathlib.Path(sys.argv[1])), pathlib.Path(folder))\n"
    )
    folders = [str(make_folder(tmp_path / str(seed), seed)) for seed in range(12)]
    authors = [
        subprocess.Popen([sys.executable, "-c", code, str(layout.root), *folders[start::3]]) for start in range(3)
    ]
    assert [author.wait(timeout=60) for author in authors] == [0, 0, 0]
    refs = read_refs(layout, "mini")
    assert refs.generation == 12
    assert len(refs.published) == len(set(refs.published.values())) == 12
    assert refs.stable is not None
    assert refs.previous is not None
    assert {refs.stable.version, refs.previous.version} <= set(refs.published)


def test_integer_tensors_and_scalars_are_fine(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"scalar": (), "empty": (0, 4), "full": (3,)}))
    assert [tensor.name for tensor in check_files(list_files(folder))] == ["scalar", "empty", "full"]
