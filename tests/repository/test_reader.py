"""What a poller sees, on real folders; time is the test's own."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from model_api.errors import RepositoryUnavailable
from model_api.publishing.changes import seal
from model_api.publishing.moves import promote, rollback
from model_api.repository.layout import Layout
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from model_api.repository.refs import Ref
from tests.rigs.clock import Clock
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import new_store, published


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repository(layout: Layout, clock: Clock) -> Repository:
    return Repository(layout.root, settle_s=60, clock=clock)


def look(repository: Repository, name: str = "mini") -> Published:
    """One look, after whatever is being hashed on the side is done."""
    repository.observe(None)
    deadline = time.monotonic() + 20
    while any(thread.name == "hash plain folders" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return repository.observe(None)[name]


def settle(repository: Repository, clock: Clock, name: str = "mini") -> Published:
    look(repository, name)
    clock.now_s += 61
    return look(repository, name)


def test_an_empty_store_has_no_models(repository: Repository) -> None:
    assert repository.observe(None) == {}


def test_a_root_without_marker_is_unavailable_not_empty(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable, match="not mounted, or never set up"):
        Repository(tmp_path).observe(None)


def test_a_root_that_does_not_exist_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(RepositoryUnavailable):
        Repository(tmp_path / "nothing").observe(["mini"])


def test_an_unknown_layout_is_unavailable(layout: Layout, repository: Repository) -> None:
    layout.marker.write_text("99\n")
    with pytest.raises(RepositoryUnavailable, match="'99'"):
        repository.check()


def test_a_published_version_is_seen_with_its_manifest_and_folder(
    layout: Layout, repository: Repository, tmp_path: Path
) -> None:
    outcome = published(layout, make_folder(tmp_path / "a"))
    seen = repository.observe(None)["mini"]
    assert seen.refs is not None
    assert seen.refs.stable == Ref("1", outcome.ref.digest)
    assert seen.manifests["1"].digest == outcome.ref.digest
    assert seen.sources["1"].joinpath("config.json").is_file()
    assert not seen.plain
    assert not seen.refused
    assert repository.versions("mini") == ["1"]


def test_names_limit_the_look(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"), "one")
    published(layout, make_folder(tmp_path / "a"), "two")
    assert list(repository.observe(["two", "absent"])) == ["two"]


def test_promote_and_rollback_are_seen_at_the_next_look(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    refs = repository.observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is not None
    assert refs.stable.version == "2"
    rollback(layout, "mini")
    refs = repository.observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is not None
    assert refs.stable.version == "1"
    promote(layout, "mini", "2")
    refs = repository.observe(None)["mini"].refs
    assert refs is not None
    assert refs.stable is not None
    assert refs.stable.version == "2"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "refs.json"),
        ("[]", "refs.json"),
        ('{"generation": -1}', "generation"),
        ('{"generation": 1, "stable": {"version": "../x", "digest": "0"}}', "version"),
        ('{"generation": 1, "stable": {"version": "1", "digest": "zz"}}', "digest"),
    ],
)
def test_bad_refs_are_refused_and_the_last_good_ones_kept(
    layout: Layout, repository: Repository, tmp_path: Path, text: str, reason: str
) -> None:
    published(layout, make_folder(tmp_path / "a"))
    good = repository.observe(None)["mini"]
    layout.refs("mini").write_text(text)
    seen = repository.observe(None)["mini"]
    assert reason in seen.refused[""]
    assert seen.refs == good.refs
    assert seen.manifests == good.manifests
    fresh = Repository(layout.root).observe(None)["mini"]
    assert fresh.refs is None
    assert reason in fresh.refused[""]


def test_a_vanished_model_is_kept_with_the_reason(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    good = repository.observe(None)["mini"]
    shutil.rmtree(layout.model("mini"))
    for _ in range(3):
        seen = repository.observe(None)["mini"]
        assert seen.refs == good.refs
        assert "refs.json is missing" in seen.refused[""]


def test_a_changed_manifest_is_refused_by_a_fresh_reader(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    file = layout.version("mini", "1") / "manifest.json"
    document = json.loads(file.read_text())
    document["options"] = {"pooling": "cls"}
    file.write_text(json.dumps(document))
    seen = Repository(layout.root).observe(None)["mini"]
    assert seen.manifests == {}
    assert "digest" in seen.refused["1"]


def test_a_version_that_refs_name_but_nobody_finds_is_refused(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    shutil.rmtree(layout.version("mini", "1"))
    assert "not found" in Repository(layout.root).observe(None)["mini"].refused["1"]


def test_a_first_plain_copy_is_taken_after_settling(layout: Layout, repository: Repository, clock: Clock) -> None:
    make_folder(layout.model("mini"))
    seen = look(repository)
    assert seen.refs is None
    assert "of 60 s" in seen.refused[""]
    clock.now_s += 59
    assert look(repository).refs is None
    clock.now_s += 2
    seen = look(repository)
    assert seen.plain
    assert not seen.refused
    assert seen.refs is not None
    assert seen.refs.stable is not None
    manifest = seen.manifests[seen.refs.stable.version]
    assert manifest.version == manifest.digest == seen.refs.stable.digest
    assert manifest.task == "embedding"
    assert seen.sources[manifest.version] == layout.model("mini")


def test_a_growing_file_is_reported_in_figures_and_never_settles(
    layout: Layout, repository: Repository, clock: Clock
) -> None:
    folder = make_folder(layout.model("mini"), rows=400_000)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert settle(repository, clock).refused[""] == "model.safetensors: 25 of 51 MB"
    (folder / "model.safetensors").write_bytes(whole)
    assert look(repository).refs is None
    clock.now_s += 61
    assert look(repository).refs is not None


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "1_Pooling/config.json", "modules.json"])
def test_a_copy_that_lacks_a_file_is_reported_by_its_name(
    layout: Layout, repository: Repository, clock: Clock, name: str
) -> None:
    (make_folder(layout.model("mini")) / name).unlink()
    seen = settle(repository, clock)
    assert seen.refs is None
    assert seen.refused[""].startswith(name)


def test_an_unsealed_change_is_never_taken_and_a_seal_takes_it(
    layout: Layout, repository: Repository, clock: Clock
) -> None:
    make_folder(layout.model("mini"), seed=1)
    first = settle(repository, clock)
    make_folder(layout.model("mini"), seed=2)
    for _ in range(3):
        seen = settle(repository, clock)
        assert seen.refs == first.refs
        assert "scripts/publish --seal mini" in seen.refused[""]
    seal(layout, "mini")
    look(repository)
    seen = look(repository)
    assert seen.refs != first.refs
    assert not seen.refused


def test_a_touched_folder_with_the_same_content_needs_no_seal(
    layout: Layout, repository: Repository, clock: Clock
) -> None:
    folder = make_folder(layout.model("mini"))
    first = settle(repository, clock)
    os.utime(folder / "config.json")
    assert look(repository).refs == first.refs
    seen = settle(repository, clock)
    assert seen.refs == first.refs
    assert not seen.refused


def test_a_seal_that_does_not_match_is_refused_by_name(layout: Layout, repository: Repository, clock: Clock) -> None:
    folder = make_folder(layout.model("mini"))
    seal(layout, "mini")
    make_folder(folder, seed=2)
    seen = settle(repository, clock)
    assert seen.refs is None
    assert "does not match SHA256SUMS" in seen.refused[""]


def test_a_sealed_first_copy_is_taken_without_settling(layout: Layout, repository: Repository) -> None:
    make_folder(layout.model("mini"))
    seal(layout, "mini")
    look(repository)
    assert look(repository).refs is not None


def test_a_manifest_seals_too_and_brings_its_options(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"), "other", options={"pooling": "max"})
    shutil.copytree(layout.version("other", "1"), layout.model("mini"))
    look(repository)
    seen = look(repository)
    assert seen.refs is not None
    assert seen.refs.stable is not None
    assert seen.manifests[seen.refs.stable.version].options == {"pooling": "max"}
    assert seen.manifests[seen.refs.stable.version].model == "mini"


def test_loose_files_beside_versions_are_ignored(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"))
    good = repository.observe(None)["mini"]
    make_folder(layout.model("mini"), seed=9)
    seen = repository.observe(None)["mini"]
    assert replace(seen, refused={}) == good
    assert seen.refused[""].startswith("nobody reads what lies beside versions/: 1_Pooling, config.json")


def test_a_plain_folder_that_goes_is_unloaded_after_settling_only(
    layout: Layout, repository: Repository, clock: Clock
) -> None:
    folder = make_folder(layout.model("mini"))
    first = settle(repository, clock)
    shutil.rmtree(folder)
    seen = repository.observe(None)["mini"]
    assert seen.refs == first.refs
    assert "gone for 0 s" in seen.refused[""]
    clock.now_s += 59
    assert "mini" in repository.observe(None)
    clock.now_s += 2
    assert "mini" not in repository.observe(None)
    assert "mini" not in repository.observe(None)


def test_a_store_that_vanishes_unloads_nothing(layout: Layout, repository: Repository, clock: Clock) -> None:
    make_folder(layout.model("mini"))
    first = settle(repository, clock)
    layout.root.rename(layout.root.with_name("away"))
    with pytest.raises(RepositoryUnavailable):
        repository.observe(None)
    clock.now_s += 1000
    with pytest.raises(RepositoryUnavailable):
        repository.observe(None)
    layout.root.with_name("away").rename(layout.root)
    assert repository.observe(None)["mini"].refs == first.refs


def test_symbolic_links_in_a_plain_copy_are_refused_by_name(
    layout: Layout, repository: Repository, clock: Clock, tmp_path: Path
) -> None:
    folder = make_folder(layout.model("mini"))
    (tmp_path / "secret.json").write_text("{}")
    (folder / "extra.json").symlink_to(tmp_path / "secret.json")
    assert settle(repository, clock).refused[""].startswith("extra.json: a symbolic link")


def test_after_a_restart_a_change_made_meanwhile_still_needs_a_seal(layout: Layout, clock: Clock) -> None:
    make_folder(layout.model("mini"), seed=1)
    first = settle(Repository(layout.root, 60, clock), clock)
    make_folder(layout.model("mini"), seed=2)
    restarted = Repository(layout.root, 60, clock)
    restarted.seed({"mini": first})
    seen = settle(restarted, clock)
    assert seen.refs == first.refs
    assert "--seal" in seen.refused[""]


def test_a_model_that_cannot_be_read_delays_no_other(layout: Layout, repository: Repository, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a"), "good")
    layout.refs("bad").mkdir(parents=True)
    seen = repository.observe(None)
    assert seen["good"].refs is not None
    assert seen["bad"].refused[""] == "refs.json: a folder, not a file"
