"""Verified copies on the instance's own disk."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from model_api.errors import Refused, StoreFull
from model_api.local_store.last_seen import recall, remember
from model_api.local_store.local_store import LocalStore
from model_api.local_store.parallel_copy import BLOCK_BYTES, copy_files
from model_api.repository.folder_content import hash_folder
from model_api.repository.folder_signature import take_signature
from model_api.repository.layout import Layout
from model_api.repository.manifest import Manifest
from model_api.repository.reader import Repository
from tests.needs import missing, needs, needs_root
from tests.rigs.model_folders import make_folder
from tests.rigs.stores import new_store, published, quiet, tree


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def publish_one(layout: Layout, folder: Path, name: str = "mini") -> tuple[Manifest, Path]:
    version = published(layout, folder, name).ref.version
    seen = Repository(layout.root).observe(None)[name]
    return seen.manifests[version], seen.sources[version]


def test_a_fetched_copy_is_whole_and_verified(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    manifest, source = publish_one(layout, folder)
    steps: list[tuple[int, int]] = []
    copy = store.fetch(manifest, source, lambda done, total: steps.append((done, total)), immutable=True)
    assert copy == store.folder(manifest.digest)
    there = tree(copy)
    assert Manifest.from_json(there.pop("manifest.json")) == manifest
    there.pop(".used")
    assert there == tree(folder)
    assert steps[-1] == (manifest.size_bytes, manifest.size_bytes)
    assert store.digests() == [manifest.digest]


def test_a_large_file_is_copied_in_blocks(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a", rows=BLOCK_BYTES * 10 // 128)
    manifest = hash_folder("mini", folder, take_signature(folder))
    steps: list[int] = []
    assert copy_files(manifest.files, folder, tmp_path / "b", lambda done, total: steps.append(done)) == []
    assert tree(tmp_path / "b") == tree(folder)
    assert steps == sorted(steps)
    assert steps[-1] == manifest.size_bytes


def test_a_second_fetch_needs_no_source(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a"))
    first = store.fetch(manifest, source, quiet, immutable=True)
    shutil.rmtree(layout.root)
    assert store.fetch(manifest, source, quiet, immutable=True) == first


def test_a_copy_damaged_on_this_disk_is_fetched_afresh(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    make_folder(layout.model("mini"))
    folder = layout.model("mini")
    manifest = hash_folder("mini", folder, take_signature(folder))
    copy = store.fetch(manifest, folder, quiet, immutable=False)
    flip(copy / "model.safetensors")
    again = store.fetch(manifest, folder, quiet, immutable=False)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    mode = stat.S_IMODE(file.stat().st_mode)
    file.chmod(0o600)
    file.write_bytes(content)
    file.chmod(mode)


def test_a_copy_shares_nothing_with_what_authors_can_write(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a", rows=50_000))
    old = os.umask(0)
    try:
        copy = store.fetch(manifest, source, quiet, immutable=True)
    finally:
        os.umask(old)
    before = (copy / "model.safetensors").read_bytes()
    flip(source / "model.safetensors")  # in place: the inode stays
    assert (copy / "model.safetensors").read_bytes() == before
    assert store.fetch(manifest, source, quiet, immutable=True) == copy
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700
    for entry in manifest.files:
        there = (copy / entry.path).stat()
        assert (there.st_nlink, stat.S_IMODE(there.st_mode)) == (1, 0o400)
        assert there.st_ino != (source / entry.path).stat().st_ino


def test_a_copy_that_others_could_write_is_made_anew(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a"))
    copy = store.fetch(manifest, source, quiet, immutable=True)
    file = copy / "model.safetensors"
    file.unlink()
    os.link(source / "model.safetensors", file)  # as earlier releases did
    store.fetch(manifest, source, quiet, immutable=True)
    assert file.stat().st_nlink == 1
    copy.chmod(0o777)
    store.fetch(manifest, source, quiet, immutable=True)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_on_one_disk_that_can_the_blocks_are_shared_until_somebody_writes(tmp_path: Path) -> None:
    needs("mkfs.xfs")
    needs_root("it mounts a file system")
    image, disk = tmp_path / "image", tmp_path / "disk"
    disk.mkdir()
    with image.open("wb") as stream:
        stream.truncate(400 * 2**20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    if subprocess.run(["mount", "-o", "loop", image, disk], check=False, capture_output=True).returncode:
        missing("this kernel mounts no XFS image")
    try:
        folder = make_folder(disk / "a", rows=BLOCK_BYTES * 5 // 128)
        manifest = hash_folder("mini", folder, take_signature(folder))
        steps: list[int] = []
        assert copy_files(manifest.files, folder, disk / "b", lambda done, total: steps.append(done)) == []
        assert steps[-1] == manifest.size_bytes
        before = tree(disk / "b")
        assert before == tree(folder)
        flip(folder / "model.safetensors")
        assert tree(disk / "b") == before
        assert [entry.path for entry in copy_files(manifest.files, folder, disk / "c", quiet)] == ["model.safetensors"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("rows", [64, 100_000])
@pytest.mark.parametrize("damage", ["flip", "truncate", "swap"])
def test_damaged_content_of_a_version_is_refused_by_name(
    layout: Layout, store: LocalStore, tmp_path: Path, damage: str, rows: int
) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a", 1, rows))
    file = source / "model.safetensors"
    if damage == "flip":
        flip(file)
    elif damage == "truncate":
        os.truncate(file, 100)
    else:
        shutil.copy(make_folder(tmp_path / "b", 2, rows) / "model.safetensors", file)
    with pytest.raises(Refused) as caught:
        store.fetch(manifest, source, quiet, immutable=True)
    assert caught.value.path == "model.safetensors"
    assert store.digests() == []


def test_a_symbolic_link_in_a_version_is_refused(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a"))
    (source / "config.json").rename(tmp_path / "config.json")
    (source / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(Refused, match="symbolic link"):
        store.fetch(manifest, source, quiet, immutable=True)


def test_what_may_pass_is_an_os_error(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    manifest, source = publish_one(layout, make_folder(tmp_path / "a"))
    with pytest.raises(OSError, match="can't be found"):
        store.fetch(manifest, tmp_path / "nothing", quiet, immutable=True)
    (source / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        store.fetch(manifest, source, quiet, immutable=True)
    folder = make_folder(layout.model("loose"))
    manifest = hash_folder("loose", folder, take_signature(folder))
    flip(folder / "model.safetensors")
    with pytest.raises(OSError, match="changed since the folder was taken"):
        store.fetch(manifest, folder, quiet, immutable=False)
    assert store.digests() == []


def test_the_least_recently_used_makes_room_and_what_is_protected_never(layout: Layout, tmp_path: Path) -> None:
    fetched = []
    for seed in range(4):
        folder = make_folder(layout.model(f"m{seed}"), seed, rows=1000)
        fetched.append((hash_folder(f"m{seed}", folder, take_signature(folder)), folder))
    size_bytes = fetched[0][0].size_bytes
    store = LocalStore(tmp_path / "store", budget_bytes=int(size_bytes * 2.5))
    digests = [manifest.digest for manifest, _ in fetched]
    for manifest, folder in fetched[:2]:
        store.fetch(manifest, folder, quiet, immutable=False)
    store.fetch(*fetched[0], quiet, immutable=False)  # used again, so the other one goes first
    store.fetch(*fetched[2], quiet, immutable=False)
    assert store.digests() == [digests[0], digests[2]]
    with pytest.raises(StoreFull, match=r"needs \d+ kB"):
        store.fetch(*fetched[3], quiet, immutable=False, protected=[digests[0], digests[2]])
    assert store.digests() == [digests[0], digests[2]]
    store.fetch(*fetched[3], quiet, immutable=False, protected=[digests[0]])
    assert store.digests() == [digests[0], digests[3]]


def test_sweep_removes_what_the_dead_left_and_not_what_the_living_do(store: LocalStore) -> None:
    dead, living = store.root / ".partial" / ("d" * 64), store.root / ".partial" / ("a" * 64)
    for folder in (dead, living):
        folder.mkdir(parents=True)
    code = (
        "import fcntl, sys\n"
        "stream = open(sys.argv[1], 'ab')\n"
        "fcntl.flock(stream, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    (store.root / ".locks").mkdir()
    command = [sys.executable, "-c", code, str(store.root / ".locks" / ("a" * 64))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        store.sweep()
        assert living.is_dir()
        assert not dead.exists()
        other.communicate(b"")
    store.sweep()
    assert not living.exists()


def test_processes_share_one_copy(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    _, source = publish_one(layout, make_folder(tmp_path / "a", rows=100_000))
    code = (
        "import sys, pathlib\n"
        "from model_api.local_store.local_store import LocalStore\n"
        "from model_api.repository.manifest import Manifest\n"
        "source = pathlib.Path(sys.argv[2])\n"
        "manifest = Manifest.from_json((source / 'manifest.json').read_bytes())\n"
        "LocalStore(pathlib.Path(sys.argv[1])).fetch(manifest, source, lambda done, total: None, immutable=False)\n"
    )
    command = [sys.executable, "-c", code, str(store.root), str(source)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert len(store.digests()) == 1


def test_what_was_seen_last_is_recalled(layout: Layout, store: LocalStore, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "a", 1))
    seen = Repository(layout.root).observe(None)
    remember(store.root, seen)
    assert recall(store.root) == seen
    published(layout, make_folder(tmp_path / "b", 2))
    seen = Repository(layout.root).observe(None)
    remember(store.root, seen)
    assert recall(store.root) == seen


@pytest.mark.parametrize("text", ["", "{", "[]", '{"models": 1}', '{"models": {"mini": {"refs": null}}}'])
def test_a_damaged_memory_recalls_nothing(store: LocalStore, text: str) -> None:
    store.root.mkdir()
    (store.root / "last_seen.json").write_text(text)
    assert recall(store.root) == {}
    remember(store.root, {})
    assert json.loads((store.root / "last_seen.json").read_text())["models"] == {}


def test_a_store_without_memory_recalls_nothing(store: LocalStore) -> None:
    assert recall(store.root) == {}
