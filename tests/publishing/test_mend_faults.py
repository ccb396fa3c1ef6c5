"""Mending a version, and sharing its blobs: killed at any step, and beside another author."""

import subprocess
import sys
from pathlib import Path

import pytest

from model_api.publishing.commands.main import main
from model_api.repository.layout import Layout
from tests.publishing.test_publish_faults import assert_consistent, doomed
from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published, tree

pytestmark = pytest.mark.integration


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


def test_mending_killed_at_every_step(layout: Layout, tmp_path: Path) -> None:
    one, two = make_folder(tmp_path / "1", 1), make_folder(tmp_path / "2", 2)
    published(layout, one)
    published(layout, two)
    for step in range(1, 200):
        for name in ("model.safetensors", "config.json", "1_Pooling/config.json", "manifest.json"):
            (layout.version("mini", "2") / name).unlink(missing_ok=True)
        code = doomed(step, layout, "publish", two, "--model", "mini")
        assert main(["publish", str(two), "--model", "mini", "--root", str(layout.root)]) == 0
        assert_consistent(layout, ["2"])
        assert list(layout.incoming("mini").iterdir()) == []
        if code == 0:
            return
    pytest.fail("it never came to its end")


def test_sharing_blobs_killed_at_every_step_leaves_the_other_version_whole(layout: Layout, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "1", 1)
    published(layout, folder)
    whole = tree(layout.version("mini", "1"))
    for step in range(1, 200):
        option = ["--option", f"max_tokens={step}"]
        code = doomed(step, layout, "publish", folder, "--model", "mini", *option)
        assert tree(layout.version("mini", "1")) == whole
        assert main(["publish", str(folder), "--model", "mini", *option, "--root", str(layout.root)]) == 0
        assert_consistent(layout, [*map(str, range(1, 400))])
        if code == 0:
            return
    pytest.fail("it never came to its end")


@pytest.mark.parametrize("other", ["a mender too", "a publisher", "a promoter"])
def test_a_mender_beside_another_author(layout: Layout, tmp_path: Path, other: str) -> None:
    one, two, three = (make_folder(tmp_path / str(seed), seed) for seed in (1, 2, 3))
    published(layout, one)
    published(layout, two)
    commands = {
        "a mender too": ["publish", str(two), "--model", "mini"],
        "a publisher": ["publish", str(three), "--model", "mini"],
        "a promoter": ["promote", "mini", "1"],
    }
    for _ in range(5):
        (layout.version("mini", "2") / "model.safetensors").write_bytes(b"damaged")
        both = [["publish", str(two), "--model", "mini"], commands[other]]
        authors = [
            subprocess.Popen(
                [sys.executable, "-S", "-m", "model_api", *command, "--root", str(layout.root)],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for command in both
        ]
        assert [author.wait(60) for author in authors] == [0, 0]
        assert_consistent(layout, ["1", "2", "3"])
        assert (layout.version("mini", "2") / "model.safetensors").read_bytes() == (
            two / "model.safetensors"
        ).read_bytes()
