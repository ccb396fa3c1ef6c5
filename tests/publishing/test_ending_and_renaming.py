"""Ending, renaming, knowing: delete, rename, copy, show, history, un-retire, gc, warnings, and /sim's model."""

import json
import os
from pathlib import Path

import pytest

from model_api.local_store.parallel_copy import wrong_files
from model_api.publishing import history
from model_api.publishing.changes import read_refs
from model_api.repository.layout import Layout
from model_api.repository.reader import Repository, read_sim_choice
from model_api.repository.statuses import write_status
from tests.rigs.commands import run
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import published, tree

PROBES = '[{"inputs": ["the cat"], "outputs": [[1.0]]}]'


def publish(tmp_path: Path, seed: int, name: str = "mini", *more: str) -> None:
    assert run("publish", make_folder(tmp_path / f"folder-{seed}", seed), "--model", name, *more) == 0


def test_a_deleted_model_is_gone_for_who_watches_and_for_who_starts_later(layout: Layout, tmp_path: Path) -> None:
    """Seen: `rm -rf models/gone`, and old instances served it for ever, also after a restart."""
    publish(tmp_path, 1)
    publish(tmp_path, 2, "other")
    watching = Repository(layout.root)
    remembered = dict(watching.observe(None))
    assert run("delete", "mini") == 3  # nobody is there to confirm it
    assert run("delete", "mini", "--yes") == 0
    assert set(watching.observe(None)) == {"other"}
    restarted = Repository(layout.root)
    restarted.seed(remembered)
    assert set(restarted.observe(None)) == {"other"}
    assert run("delete", "mini", "--yes") == 0
    publish(tmp_path, 3)
    refs = read_refs(layout, "mini")
    assert refs.stable is not None
    assert refs.stable.version == "2"  # no number is used twice
    assert set(watching.observe(None)) == {"mini", "other"}


def test_what_was_removed_by_hand_can_still_be_ended(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, 1)
    watching = Repository(layout.root)
    watching.observe(None)
    for path in sorted(layout.model("mini").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    layout.model("mini").rmdir()
    kept = watching.observe(None)["mini"]
    assert "scripts/delete mini ends it" in kept.refused[""]
    assert run("delete", "mini", "--yes") == 3
    write_status(layout.statuses, "i-1", {"models": [{"name": "mini", "version": "1", "digest": "d" * 64}]})
    assert run("delete", "mini", "--yes") == 0
    assert watching.observe(None) == {}
    assert run("delete", "nothing", "--yes") == 3
    assert "no model named 'nothing'" in capsys.readouterr().err


def test_a_plain_copy_is_deleted_too_and_may_come_back_as_a_first_copy(layout: Layout) -> None:
    folder = make_folder(layout.model("loose"))
    assert run("publish", "--seal", "loose") == 0
    watching = Repository(layout.root, settle_s=0.0)
    while not watching.observe(None)["loose"].manifests:
        pass
    assert run("delete", "loose", "--yes") == 0
    assert watching.observe(None) == {}
    make_folder(folder, seed=2)
    while not watching.observe(None)["loose"].manifests:
        pass
    seen = watching.observe(None)["loose"]
    assert seen.plain
    assert "refs.json" not in {entry.path for m in seen.manifests.values() for entry in m.files}


def test_a_deleted_model_comes_back_out_of_the_trash(layout: Layout, tmp_path: Path) -> None:
    publish(tmp_path, 1)
    before = tree(layout.version("mini", "1"))
    assert run("delete", "mini", "--yes") == 0
    assert run("retire", "mini", "1", "--undo") == 0
    assert run("promote", "mini", "1") == 0
    assert tree(layout.version("mini", "1")) == before
    assert Repository(layout.root).observe(None)["mini"].refused == {}


def test_unretire(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        publish(tmp_path, seed)
    assert run("retire", "mini", "1") == 0
    assert run("promote", "mini", "1") == 3
    assert run("retire", "mini", "2", "--undo") == 3
    assert "mini@2 isn't in .trash; there: 1" in capsys.readouterr().err
    assert run("retire", "mini", "1", "--undo") == 0
    assert run("promote", "mini", "1") == 0


def test_what_is_half_removed_is_not_unretired(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (1, 2, 3):
        publish(tmp_path, seed)
    assert run("retire", "mini", "1") == 0
    (layout.trash("mini") / "1" / "model.safetensors").unlink()
    assert run("retire", "mini", "1", "--undo") == 3
    assert "model.safetensors: missing" in capsys.readouterr().err
    assert (layout.trash("mini") / "1").is_dir()


def test_gc_says_what_it_frees(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2, 3):
        publish(tmp_path, seed)
    run("retire", "mini", "1")
    broken = layout.incoming("mini") / "resumable-x"
    broken.mkdir(parents=True)
    (broken / "half").write_bytes(b"x" * 5_000_000)
    capsys.readouterr()
    assert run("gc", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "mini/.trash/1" in said
    assert "mini/.incoming/resumable-x  5 MB  an upload that broke off" in said
    assert "would be freed" in said
    assert (layout.trash("mini") / "1").is_dir()
    assert run("gc", "mini") == 0
    assert "5 MB freed" in capsys.readouterr().out
    assert list(layout.trash("mini").iterdir()) == []
    assert not broken.exists()
    assert Repository(layout.root).observe(None)["mini"].refused == {}
    publish(tmp_path, 1)
    assert read_refs(layout, "mini").published.keys() == {"1", "2", "3", "4"}


def test_rename_keeps_all_and_costs_no_copy(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "probes").write_text(PROBES)
    publish(tmp_path, 1, "old", "--option", "pooling=cls", "--probe", str(tmp_path / "probes"), "-m", "first")
    publish(tmp_path, 2, "old", "--canary", "5")
    before = read_refs(layout, "old")
    inode = (layout.version("old", "1") / "model.safetensors").stat().st_ino
    assert run("rename", "old", "new") == 0
    after = read_refs(layout, "new")
    assert (after.stable, after.canary, after.published) == (before.stable, before.canary, before.published)
    assert (layout.version("new", "1") / "model.safetensors").stat().st_ino == inode
    seen = Repository(layout.root).observe(None)
    assert set(seen) == {"new"}
    assert seen["new"].refused == {}
    assert seen["new"].manifests["1"].options == {"pooling": "cls"}
    assert len(seen["new"].manifests["1"].probes) == 1
    assert wrong_files(seen["new"].manifests["1"].files, seen["new"].sources["1"]) == []
    capsys.readouterr()
    assert run("history", "new") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in told] == ["publish", "publish", "rename"]
    assert "first" in told[0]
    assert run("promote", "old", "1") == 3
    assert run("rename", "old", "newer") == 3
    assert "old is renamed to new" in capsys.readouterr().err


def test_copy_has_bytes_of_its_own(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "probes").write_text(PROBES)
    publish(tmp_path, 1, "mini", "--option", "pooling=cls", "--probe", str(tmp_path / "probes"))
    publish(tmp_path, 2)
    assert run("promote", "mini", "1") == 0
    assert run("copy", "mini", "twin") == 0
    seen = Repository(layout.root).observe(None)
    manifest = seen["twin"].manifests["1"]
    assert (manifest.options, len(manifest.probes)) == ({"pooling": "cls"}, 1)
    assert manifest.digest == seen["mini"].manifests["1"].digest
    weights = [layout.version(name, "1") / "model.safetensors" for name in ("mini", "twin")]
    assert weights[0].stat().st_ino != weights[1].stat().st_ino
    assert run("copy", "mini", "twin") == 0  # the same again changes nothing that matters
    publish(tmp_path, 3, "taken")
    capsys.readouterr()
    assert run("copy", "mini", "taken") == 3
    assert run("rename", "mini", "taken") == 3
    assert "taken is a model already" in capsys.readouterr().err
    assert run("copy", "mini", "mini") == 3


def test_show_tells_what_a_version_is_made_of(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "probes").write_text(PROBES)
    publish(tmp_path, 1, "mini", "--option", "pooling=cls", "--probe", str(tmp_path / "probes"))
    publish(tmp_path, 2)
    capsys.readouterr()
    assert run("show", "mini@previous") == 0
    said = capsys.readouterr().out
    for words in ("mini@1  previous; not proven yet", "task:      embedding", 'pooling="cls"', "the cat"):
        assert words in said
    assert "model.safetensors" in said
    assert "instances: no instance reports yet" in said
    assert run("show", "mini", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["version"], shown["roles"], shown["proven"]) == ("2", ["stable"], False)
    assert run("show", "mini@canary") == 3
    assert "mini has no canary version; versions: 1, 2" in capsys.readouterr().err
    assert run("show", "mini@9") == 3


def test_history_tells_who_when_from_where_and_why(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, 1, "mini", "-m", "the first")
    publish(tmp_path, 2, "mini", "--message", "retrained  on\nmore")
    assert run("rollback", "mini", "-m", "worse on names") == 0
    assert run("promote", "mini", "2") == 0
    assert run("promote", "mini", "2") == 0  # nothing changed, nothing to tell
    publish(tmp_path, 3)
    assert run("retire", "mini", "1") == 0
    capsys.readouterr()
    assert run("history", "mini", "--json") == 0
    entries = json.loads(capsys.readouterr().out)["history"]
    done = [(entry["did"], entry.get("was"), entry.get("stable")) for entry in entries]
    assert done == [
        ("publish", None, "1"),
        ("publish", "1", "2"),
        ("rollback", "2", "1"),
        ("promote", "1", "2"),
        ("publish", "2", "3"),
        ("retire", "3", "3"),
    ]
    assert [entry.get("message") for entry in entries[:3]] == ["the first", "retrained on more", "worse on names"]
    assert entries[0]["from"] == str(tmp_path / "folder-1")
    assert "@" in entries[0]["who"]
    assert entries[0]["at"].endswith("+00:00")
    assert run("history", "mini") == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert "rollback" in line
    assert "2 -> 1" in line
    assert line.endswith(": worse on names")
    assert run("publish", make_folder(tmp_path / "x", 9), "--model", "mini", "-m", "x" * 501) == 3


def test_the_history_is_bounded_and_survives_torn_lines(layout: Layout, tmp_path: Path) -> None:
    publish(tmp_path, 1)
    file = layout.history("mini")
    for generation in range(2, 2 * history.KEPT_ENTRIES + 30):
        history.append(layout, "mini", {"generation": generation, "did": "promote"})
    n_lines = file.read_text().count("\n")
    assert history.KEPT_ENTRIES <= n_lines <= 2 * history.KEPT_ENTRIES
    with file.open("a") as stream:
        stream.write('{"generation": 5, "did"')  # its writer was killed
    history.append(layout, "mini", {"generation": 5000, "did": "rollback"})
    entries = history.read(layout, "mini", 5000)
    assert entries[-1] == {"generation": 5000, "did": "rollback"}
    assert history.read(layout, "mini", 4999)[-1]["did"] == "promote"  # what was only meant isn't told


def test_a_change_of_task_and_the_end_of_a_canary_are_told(
    layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, 1)
    publish(tmp_path, 2, "mini", "--canary", "5")
    capsys.readouterr()
    publish(tmp_path, 3)
    assert "warning: the canary, version 2 for 5 % of callers, ends with this" in capsys.readouterr().err
    publish(tmp_path, 4, "mini", "--task", "extractive-summarization")
    assert "warning: version 3 serves embedding, version 4 serves extractive-summarization" in capsys.readouterr().err


def test_sim_stays_with_its_model(layout: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seen: a second embedding model, and every caller of /sim got 422."""
    publish(tmp_path, 1, "main")
    assert "/sim" not in capsys.readouterr().err
    publish(tmp_path, 2, "other")
    assert "warning: /sim without a model is answered by main as before" in capsys.readouterr().err
    repository = Repository(layout.root)
    repository.observe(None)
    assert repository.sim_choice == "main"
    assert run("promote", "other", "--sim") == 0
    assert "/sim without a model is answered by other from now on (was main)" in capsys.readouterr().out
    assert read_sim_choice(layout) == "other"
    assert run("delete", "other", "--yes") == 0
    assert "other answered /sim" in capsys.readouterr().out
    publish(tmp_path, 3, "third")
    assert read_sim_choice(layout) == "main"  # the chosen one is gone
    assert run("promote", "nothing", "--sim") == 3


def test_in_a_store_of_an_older_release_sim_stays_with_the_model_that_is_there(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a", 1), "zebra")
    layout.sim_choice.unlink()
    publish(tmp_path, 2, "ape")
    assert read_sim_choice(layout) == "zebra"


def test_in_a_store_of_plain_copies_sim_stays_with_what_the_instances_use(layout: Layout, tmp_path: Path) -> None:
    make_folder(layout.model("plain"), 1)
    write_status(layout.statuses, "i-1", {"models": [], "sim": "plain"})
    publish(tmp_path, 2, "ape")
    assert read_sim_choice(layout) == "plain"


def test_an_author_without_a_name_publishes_all_the_same(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    publish(tmp_path, 1)
    (entry,) = history.read(layout, "mini", 9)
    assert entry["who"].startswith("unknown@")
