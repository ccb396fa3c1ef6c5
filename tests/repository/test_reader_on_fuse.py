"""Reader and local store on a file system that fails, forgets and hangs."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_api.errors import RepositoryUnavailable
from model_api.local_store.local_store import LocalStore
from model_api.repository.layout import Layout
from model_api.repository.published import Published
from model_api.repository.reader import Repository
from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published, quiet

pytestmark = pytest.mark.integration


@pytest.fixture
def efs(tmp_path: Path) -> Iterator[FuseEfs]:
    with fuse_efs(tmp_path) as mounted:
        yield mounted


@pytest.fixture
def author(efs: FuseEfs, tmp_path: Path) -> Layout:
    """The store as another client of the file system sees it."""
    layout = new_store(efs.backing)
    published(layout, make_folder(tmp_path / "1", 1))
    return layout


def stable(published: Published) -> str:
    assert published.refs is not None
    assert published.refs.stable is not None
    return published.refs.stable.version


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EACCES", "ETIMEDOUT"])
@pytest.mark.parametrize("path", ["*", "/.model-store", "/models"])
def test_a_failing_store_is_unavailable_and_comes_back(efs: FuseEfs, author: Layout, error: str, path: str) -> None:
    repository = Repository(efs.root)
    before = repository.observe(None)
    efs.fail(error, path)
    with pytest.raises(RepositoryUnavailable):
        repository.observe(None)
    efs.heal()
    assert repository.observe(None) == before


def test_a_model_that_fails_is_kept_and_delays_no_other(efs: FuseEfs, author: Layout, tmp_path: Path) -> None:
    published(author, make_folder(tmp_path / "1"), "other")
    repository = Repository(efs.root)
    before = repository.observe(None)
    efs.fail("EIO", "/models/mini*")
    seen = repository.observe(None)
    assert seen["other"] == before["other"]
    assert seen["mini"].refs == before["mini"].refs
    assert "can't be read for the moment: Input/output error" in seen["mini"].refused[""]
    efs.heal()
    assert repository.observe(None) == before


def test_an_unmounted_store_is_not_an_empty_one(efs: FuseEfs, author: Layout) -> None:
    repository = Repository(efs.root)
    before = repository.observe(None)
    efs.unmount()
    with pytest.raises(RepositoryUnavailable, match="not mounted"):
        repository.observe(None)
    efs.mount()
    assert repository.observe(None) == before


def test_stale_names_show_the_old_or_the_new_and_never_a_mixture(efs: FuseEfs, author: Layout, tmp_path: Path) -> None:
    repository = Repository(efs.root)
    assert stable(repository.observe(None)["mini"]) == "1"
    efs.stale(0.5)
    (efs.root / "models/mini/versions").stat()
    seen_versions = set()
    for seed in range(2, 12):
        published(author, make_folder(tmp_path / str(seed), seed))

        def arrived(wanted: str = str(seed)) -> bool:
            try:
                seen = repository.observe(None)["mini"]
            except RepositoryUnavailable:
                return False
            version = stable(seen)
            seen_versions.add(version)
            if version not in seen.refused and seen.refs is not None:
                assert seen.manifests[version].digest == seen.refs.named()[version]
            return version == wanted and not seen.refused

        wait_until(arrived, what=f"version {seed}")
    assert "11" in seen_versions


@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_a_copy_that_fails_on_the_way_may_be_tried_again(
    efs: FuseEfs, author: Layout, tmp_path: Path, error: str
) -> None:
    seen = Repository(efs.root).observe(None)["mini"]
    store = LocalStore(tmp_path / "store")
    efs.fail(error, "*.safetensors", "read")
    with pytest.raises(OSError, match=os.strerror(5) if error == "EIO" else "Stale"):
        store.fetch(seen.manifests["1"], seen.sources["1"], quiet, immutable=True)
    assert store.digests() == []
    efs.heal()
    folder = store.fetch(seen.manifests["1"], seen.sources["1"], quiet, immutable=True)
    assert (folder / "model.safetensors").stat().st_nlink == 1  # a file system of an unknown type is never linked from


def test_a_copy_that_hangs_dies_with_its_process_and_leaves_nothing(
    efs: FuseEfs, author: Layout, tmp_path: Path
) -> None:
    code = (
        "import pathlib, sys\n"
        "from model_api.local_store.local_store import LocalStore\n"
        "from model_api.repository.reader import Repository\n"
        "seen = Repository(pathlib.Path(sys.argv[1])).observe(None)['mini']\n"
        "store = LocalStore(pathlib.Path(sys.argv[2]))\n"
        "print('copying', flush=True)\n"
        "store.fetch(seen.manifests['1'], seen.sources['1'], lambda done, total: None, immutable=True)\n"
    )
    efs.hang("*.safetensors", "read")
    command = [sys.executable, "-c", code, str(efs.root), str(tmp_path / "store")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as leader:
        assert leader.stdout is not None
        assert leader.stdout.readline() == b"copying\n"
        wait_until(lambda: efs.counts()["hanging"] > 0, what="the copy to hang")
        leader.send_signal(signal.SIGKILL)
        assert leader.wait(timeout=10) == -signal.SIGKILL
    store = LocalStore(tmp_path / "store")
    store.sweep()
    assert store.digests() == []
    assert list((store.root / ".partial").iterdir()) == []
    efs.heal()
    seen = Repository(efs.root).observe(None)["mini"]
    assert store.fetch(seen.manifests["1"], seen.sources["1"], quiet, immutable=True).is_dir()


def test_a_plain_folder_whose_reading_hangs_delays_no_look(efs: FuseEfs, author: Layout) -> None:
    now_s = 0.0
    repository = Repository(efs.root, 60, clock=lambda: now_s)
    make_folder(author.model("loose"), rows=100_000)
    repository.observe(None)
    efs.hang("/models/loose/model.safetensors", "read")
    now_s = 61.0
    for _ in range(20):
        assert stable(repository.observe(None)["mini"]) == "1"
    assert [thread.name for thread in threading.enumerate()].count("hash plain folders") == 1
    efs.heal()
    wait_until(lambda: repository.observe(None)["loose"].refs is not None, what="the plain folder")
