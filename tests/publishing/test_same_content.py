"""The same content is what lies there, not what is named: files, names, probes and options."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from model_api.errors import Refused
from model_api.publishing.changes import read_refs
from model_api.publishing.draft import draft, publish
from model_api.publishing.moves import promote, rollback
from model_api.repository.layout import Layout
from model_api.repository.manifest import MANIFEST_NAME, Manifest, Probe
from model_api.repository.reader import Repository
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import new_store, published, quiet, tree

PROBE = Probe(("a",), ([1.0],))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


def manifest_of(layout: Layout, version: str, name: str = "mini") -> Manifest:
    return Manifest.from_json((layout.version(name, version) / MANIFEST_NAME).read_bytes())


def assert_whole(layout: Layout, folder: Path, version: str, name: str = "mini") -> None:
    """A fresh instance finds it as its author has it."""
    seen = Repository(layout.root).observe(None)[name]
    assert seen.refused == {}
    assert seen.manifests[version].model == name
    there = tree(layout.version(name, version))
    there.pop(MANIFEST_NAME)
    assert there == tree(folder)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _link(version: Path) -> None:
    (version / "config.json").unlink()
    (version / "config.json").symlink_to("/etc/hosts")


def _folder(version: Path) -> None:
    (version / "config.json").unlink()
    (version / "config.json").mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda version: (version / "model.safetensors").unlink(),
    "overwritten in place": lambda version: _flip(version / "model.safetensors"),
    "cut short": lambda version: os.truncate(version / "model.safetensors", 100),
    "a link": _link,
    "a folder": _folder,
    "no sub-folder": lambda version: shutil.rmtree(version / "1_Pooling"),
    "no manifest": lambda version: (version / MANIFEST_NAME).unlink(),
    "half a manifest": lambda version: os.truncate(version / MANIFEST_NAME, 50),
    "all gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_publishing_again_puts_a_damaged_version_right(layout: Layout, tmp_path: Path, damage: str) -> None:
    folder = make_folder(tmp_path / "a")
    published(layout, folder)
    generation = read_refs(layout, "mini").generation
    DAMAGES[damage](layout.version("mini", "1"))
    outcome = published(layout, folder)
    assert outcome.changed
    assert "was damaged" in outcome.message
    assert "whole again" in outcome.message
    assert outcome.ref.version == "1"
    assert_whole(layout, folder, "1")
    assert read_refs(layout, "mini").generation > generation  # so that instances try again what they refused
    assert not list(layout.incoming("mini").iterdir())
    again = published(layout, folder)
    assert not again.changed
    assert "its files are whole" in again.message


def test_a_damaged_previous_version_is_put_right_and_serves(layout: Layout, tmp_path: Path) -> None:
    one = make_folder(tmp_path / "1", 1)
    published(layout, one)
    published(layout, make_folder(tmp_path / "2", 2))
    _flip(layout.version("mini", "1") / "model.safetensors")
    outcome = published(layout, one)
    assert outcome.ref.version == "1"
    assert_whole(layout, one, "1")
    refs = read_refs(layout, "mini")
    assert refs.stable is not None
    assert refs.stable.version == "1"


def test_an_earlier_content_again_is_live_again_under_its_number(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    outcome = published(layout, tmp_path / "1")
    assert outcome.changed
    assert "published as version 1; instances load it now" in outcome.message
    assert "published before (was 2)" in outcome.message
    refs = read_refs(layout, "mini")
    assert refs.stable is not None
    assert refs.previous is not None
    assert (refs.stable.version, refs.previous.version) == ("1", "2")
    rollback(layout, "mini")
    assert published(layout, tmp_path / "1").changed


def test_the_stable_content_again_ends_no_canary(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "1", 1))
    published(layout, make_folder(tmp_path / "2", 2), canary_percent=5)
    assert not published(layout, tmp_path / "1").changed
    assert read_refs(layout, "mini").canary is not None


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({"probes": (PROBE,)}, {"probes": (Probe(("a",), ([2.0],)),)}),
        ({}, {"probes": (PROBE,)}),
        ({"probes": (PROBE,)}, {}),
        ({}, {"options": {"pooling": "max"}}),
        ({}, {"options": {"unload_first": True}}),
        ({"options": {"max_batch_tokens": 512}}, {"options": {"max_batch_tokens": 256}}),
    ],
)
def test_other_probes_or_options_are_a_new_version_of_the_same_blobs(
    layout: Layout, tmp_path: Path, first: dict[str, object], then: dict[str, object]
) -> None:
    folder = make_folder(tmp_path / "a")
    for version, how in (("1", first), ("2", then)):
        outcome = publish(layout, draft(folder, "mini", quiet, **how), quiet)  # type: ignore[arg-type]
        assert outcome.changed
        assert outcome.ref.version == version
        made = manifest_of(layout, version)
        assert (made.probes, dict(made.options)) == (how.get("probes", ()), how.get("options", {}))
    assert_whole(layout, folder, "2")
    one, two = (layout.version("mini", version) / "model.safetensors" for version in ("1", "2"))
    assert one.samefile(two)
    # And the first one again is the first version, not a third.
    assert publish(layout, draft(folder, "mini", quiet, **first), quiet).ref.version == "1"  # type: ignore[arg-type]


def test_a_shared_blob_that_is_damaged_is_copied_anew(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    published(layout, folder)
    _flip(layout.version("mini", "1") / "model.safetensors")
    published(layout, folder, options={"pooling": "max"})
    assert_whole(layout, folder, "2")


def test_mending_one_version_leaves_the_other_alone(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    published(layout, folder)
    published(layout, folder, options={"pooling": "max"})
    _flip(layout.version("mini", "1") / "model.safetensors")  # one inode: both are damaged
    published(layout, folder, options={"pooling": "max"})
    assert_whole(layout, folder, "2")
    published(layout, folder)
    for version in ("1", "2"):
        assert_whole(layout, folder, version)


def test_a_renamed_model_can_be_published_and_promoted(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    published(layout, folder, "oldname")
    layout.model("oldname").rename(layout.model("newname"))
    with pytest.raises(Refused, match=r"newname@1 calls itself oldname@1.*publish its files as newname again"):
        promote(layout, "newname", "1")
    outcome = published(layout, folder, "newname")
    assert outcome.changed
    assert_whole(layout, folder, "1", "newname")
    assert not promote(layout, "newname", "1").after.canary
    other = make_folder(tmp_path / "b", 2)
    assert published(layout, other, "newname").ref.version == "2"


def test_a_version_of_another_name_keeps_task_options_and_probes(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", sentence_transformers=False)
    made = draft(folder, "mini", quiet, "extractive-summarization", {"pooling": "max", "max_sentences": 2}, (PROBE,))
    publish(layout, made, quiet)
    source = layout.version("mini", "1")
    copy = draft(source, "other", quiet)
    assert any("manifest.json of mini@1" in note and "1 probes" in note for note in copy.notes)
    assert publish(layout, copy, quiet).ref.digest == made.manifest.digest
    assert manifest_of(layout, "1", "other").probes == (PROBE,)
    # What the command says goes before it; an option of null is taken out.
    changed = draft(source, "other", quiet, options={"pooling": None, "max_sentences": 5}, probes=(PROBE, PROBE))
    assert (dict(changed.manifest.options), len(changed.manifest.probes)) == ({"max_sentences": 5}, 2)
    with pytest.raises(Refused, match="says task extractive-summarization, the command says embedding"):
        draft(source, "other", quiet, "embedding")
    plain = draft(source, "other", quiet, exclude=[MANIFEST_NAME])
    assert (plain.manifest.task, plain.manifest.options, plain.manifest.probes) == ("embedding", {}, ())


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "a web app", "icons": []}'])
def test_a_manifest_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    folder = make_folder(tmp_path / "a")
    (folder / MANIFEST_NAME).write_text(text)
    with pytest.raises(Refused, match=r"manifest\.json: .*--exclude manifest\.json"):
        draft(folder, "mini", quiet)
    assert draft(folder, "mini", quiet, exclude=[MANIFEST_NAME]).manifest.files


def test_a_folder_that_differs_from_its_own_checksums_is_refused(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    source = tmp_path / "copy"
    shutil.copytree(layout.version("mini", "1"), source)
    _flip(source / "model.safetensors")
    with pytest.raises(Refused, match=r"model\.safetensors: does not match manifest\.json"):
        draft(source, "mini", quiet)
    folder = make_folder(tmp_path / "b")
    files = sorted(tree(folder))
    sums = subprocess.run(["sha256sum", *files], cwd=folder, capture_output=True, text=True, check=True).stdout
    (folder / "SHA256SUMS").write_text(sums)
    draft(folder, "mini", quiet)
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "x": 1}))
    with pytest.raises(Refused, match=r"config\.json: does not match SHA256SUMS"):
        draft(folder, "mini", quiet)
