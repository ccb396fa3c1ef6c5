"""Authors who are killed at any step, who publish at once, whose disk is full or whose clock is wrong."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_api.local_store.parallel_copy import wrong_files
from model_api.publishing import history
from model_api.publishing.changes import read_refs
from model_api.publishing.commands.main import main
from model_api.repository.layout import Layout
from model_api.repository.reader import Repository
from tests.needs import missing, needs, needs_root
from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published, tree

pytestmark = pytest.mark.integration

# Runs a command and dies by SIGKILL just before its n-th step that changes a file system.
DOOMED = """
import os, signal, sys
from model_api.publishing.commands.main import main

left = int(sys.argv[1])
root = sys.argv[2]
CHANGES = {"os.rename", "os.mkdir", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes or event in CHANGES:
        step()

def stepping(call):
    def changed(*arguments):
        step()
        return call(*arguments)
    return changed

os.fsync, os.fchmod = stepping(os.fsync), stepping(os.fchmod)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
sys.exit(main(sys.argv[3:] + ["--root", root]))
"""


def doomed(step: int, layout: Layout, *arguments: str | Path) -> int:
    """Run a command that dies before its `step`-th change. Returns its exit status, -9 if it died."""
    command = [sys.executable, "-S", "-c", DOOMED, str(step), str(layout.root), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


def assert_consistent(layout: Layout, stable: Sequence[str]) -> None:
    """A fresh reader finds every named version whole, and one of `stable` serving."""
    seen = Repository(layout.root).observe(None)["mini"]
    assert seen.refused == {}
    assert seen.refs is not None
    assert seen.refs.stable is not None
    assert seen.refs.stable.version in stable
    for version in seen.refs.named():
        assert wrong_files(seen.manifests[version].files, seen.sources[version]) == []


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return new_store(tmp_path / "efs")


@pytest.mark.parametrize("canary", [False, True])
def test_publish_killed_at_every_step(layout: Layout, tmp_path: Path, canary: bool) -> None:
    published(layout, make_folder(tmp_path / "0", 0))
    share = ["--canary", "5"] if canary else []
    last = "1"
    for step in range(1, 500):
        folder = make_folder(tmp_path / "next", step)
        code = doomed(step, layout, "publish", folder, "--model", "mini", *share)
        assert_consistent(layout, [last, str(step + 1)])
        assert main(["publish", str(folder), "--model", "mini", "--root", str(layout.root), *share]) == 0
        refs = read_refs(layout, "mini")
        serving = refs.canary.version if refs.canary is not None else refs.stable and refs.stable.version
        assert serving == str(step + 1)  # no number is lost, none used twice
        last = "1" if canary else str(step + 1)
        assert_consistent(layout, [last])
        assert list(layout.incoming("mini").iterdir()) == []
        if code == 0:
            assert step > 40
            return
    pytest.fail("publish never came to its end")


def test_the_first_publish_killed_at_every_step(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    for step in range(1, 500):
        layout = Layout(tmp_path / f"efs{step}")
        code = doomed(step, layout, "publish", folder, "--init", "--model", "mini")
        command = ["publish", str(folder), "--init", "--model", "mini", "--root", str(layout.root)]
        assert main(command) == 0
        assert_consistent(layout, ["1"])
        assert list(layout.incoming("mini").iterdir()) == []
        if code == 0:
            return
    pytest.fail("publish never came to its end")


@pytest.mark.parametrize("verb", [["promote", "mini", "1"], ["rollback", "mini"], ["retire", "mini", "1"]])
def test_the_other_verbs_killed_at_every_step(layout: Layout, tmp_path: Path, verb: list[str]) -> None:
    for seed in (1, 2, 3):
        published(layout, make_folder(tmp_path / str(seed), seed))
    before = {version: layout.version("mini", version) for version in ("1", "2", "3")}
    for step in range(1, 100):
        code = doomed(step, layout, *verb)
        assert_consistent(layout, ["1", "2", "3"])
        assert_history_is_true(layout)
        there = [version for version, folder in before.items() if folder.is_dir()]
        assert len(there) + len(list(layout.trash("mini").glob("*"))) == 3
        if verb[0] == "retire" and "1" not in there:
            (layout.trash("mini") / "1").rename(before["1"])
        main(["promote", "mini", "2", "--root", str(layout.root)])
        main(["promote", "mini", "3", "--root", str(layout.root)])
        assert_consistent(layout, ["3"])
        if code == 0:
            return
    pytest.fail("it never came to its end")


def assert_history_is_true(layout: Layout) -> None:
    """Its last entry that became true tells what is stable."""
    refs = read_refs(layout, "mini")
    entries = history.read(layout, "mini", refs.generation)
    assert entries[-1].get("stable") == (refs.stable.version if refs.stable else None)


def steps(layout: Layout, *arguments: str) -> Iterator[tuple[int, Layout]]:
    """The command killed at each of its steps, on a fresh copy of the store each time; ends when it isn't killed."""
    for step in range(1, 300):
        copied = Layout(layout.root.with_name(f"store-{step}"))
        shutil.copytree(layout.root, copied.root, symlinks=True)
        code = doomed(step, copied, *arguments)
        yield step, copied
        shutil.rmtree(copied.root)
        if code == 0:
            return
    pytest.fail("it never came to its end")


def test_delete_killed_at_every_step_is_finished_by_a_second_one(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    for _, store in steps(layout, "delete", "mini", "--yes"):
        seen = Repository(store.root).observe(None)
        assert seen == {} or seen["mini"].refs is not None
        assert main(["delete", "mini", "--yes", "--root", str(store.root)]) == 0
        assert Repository(store.root).observe(None) == {}
        assert sorted(path.name for path in store.trash("mini").iterdir()) == ["1", "2"]


def test_retire_undo_killed_at_every_step_loses_nothing(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        published(layout, make_folder(tmp_path / str(seed), seed))
    assert main(["retire", "mini", "1", "--root", str(layout.root)]) == 0
    for _, store in steps(layout, "retire", "mini", "1", "--undo"):
        assert_consistent(store, ["3"])
        main(["retire", "mini", "1", "--undo", "--root", str(store.root)])
        assert main(["promote", "mini", "1", "--root", str(store.root)]) == 0
        assert_consistent(store, ["1"])


@pytest.mark.parametrize("verb", ["rename", "copy"])
def test_rename_and_copy_killed_at_every_step_are_finished_by_a_second_one(
    layout: Layout, tmp_path: Path, verb: str
) -> None:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / str(seed), seed))
    for _, store in steps(layout, verb, "mini", "new"):
        seen = Repository(store.root).observe(None)
        serving = [name for name, one in seen.items() if one.refs is not None and one.refs.stable and not one.refused]
        assert serving  # one of the two names serves at any moment
        assert main([verb, "mini", "new", "--root", str(store.root)]) == 0
        assert not store.versions("mini").exists() or verb == "copy"
        seen = Repository(store.root).observe(None)
        assert set(seen) == ({"new"} if verb == "rename" else {"mini", "new"})
        for name, one in seen.items():
            assert one.refused == {}, name
            for version in one.manifests:
                assert wrong_files(one.manifests[version].files, one.sources[version]) == []


def test_gc_killed_at_every_step_harms_nothing_that_serves(layout: Layout, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        published(layout, make_folder(tmp_path / str(seed), seed))
    assert main(["retire", "mini", "1", "--root", str(layout.root)]) == 0
    for _, store in steps(layout, "gc"):
        assert_consistent(store, ["3"])
        assert main(["retire", "mini", "1", "--undo", "--root", str(store.root)]) in (0, 3)  # whole, or not at all
        assert_consistent(store, ["3"])
        assert main(["gc", "--root", str(store.root)]) == 0
        assert not store.trash("mini").exists() or list(store.trash("mini").iterdir()) == []


PAIRED: Sequence[Sequence[str]] = (
    ["publish", "FOLDER", "--model", "mini"],
    ["publish", "FOLDER", "--model", "mini", "--canary", "5"],
    ["promote", "mini", "2"],
    ["rollback", "mini"],
    ["retire", "mini", "1"],
    ["retire", "mini", "--all"],
    ["delete", "mini", "--yes"],
    ["rename", "mini", "new"],
    ["copy", "mini", "new"],
    ["gc"],
)


@pytest.mark.parametrize("one", PAIRED, ids=" ".join)
def test_two_authors_in_every_pair_of_commands(tmp_path: Path, one: Sequence[str]) -> None:
    """Both at once: each is done, or says why not; and what serves is whole."""
    for number, other in enumerate(PAIRED):
        layout = new_store(tmp_path / f"efs{number}")
        for seed in (1, 2, 3):
            published(layout, make_folder(tmp_path / str(seed), seed))
        authors = []
        for author, command in enumerate((one, other)):
            folder = str(make_folder(tmp_path / f"new-{author}", 10 + author))
            arguments = [folder if word == "FOLDER" else word for word in command]
            authors.append(
                subprocess.Popen(
                    [sys.executable, "-S", "-m", "model_api", *arguments, "--root", str(layout.root)],
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
            )
        said = [author.communicate(timeout=120)[0] for author in authors]
        assert {author.returncode for author in authors} <= {0, 1, 3}, said
        assert not any("Traceback" in words for words in said), said
        for name, seen in Repository(layout.root).observe(None).items():
            # A rename whose model was deleted under it leaves at most a folder of which nothing serves.
            came_to_nothing = name == "new" and seen.refs is None and not layout.versions("new").exists()
            assert came_to_nothing or seen.refused == {}, (name, other, said)
            for version in seen.manifests:
                assert wrong_files(seen.manifests[version].files, seen.sources[version]) == []


def test_seal_killed_at_every_step(layout: Layout) -> None:
    folder = make_folder(layout.model("loose"))
    for step in range(1, 100):
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        code = doomed(step, layout, "publish", "--seal", "loose")
        sums = folder / "SHA256SUMS"
        assert not sums.exists() or len(sums.read_text().splitlines()) == 7
        assert main(["publish", "--seal", "loose", "--root", str(layout.root)]) == 0
        if code == 0:
            return
    pytest.fail("it never came to its end")


def test_authors_at_once_with_some_killed(layout: Layout, tmp_path: Path) -> None:
    published(layout, make_folder(tmp_path / "0", 0))
    folders = [make_folder(tmp_path / str(seed), seed) for seed in range(1, 9)]
    command = [sys.executable, "-S", "-c", DOOMED]
    authors = [
        subprocess.Popen(
            [*command, str(40 + 5 * n if n % 2 else 0), str(layout.root), "publish", str(folder), "--model", "mini"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for n, folder in enumerate(folders)
    ]
    codes = [author.wait(timeout=120) for author in authors]
    assert codes[::2] == [0, 0, 0, 0]
    assert_consistent(layout, [str(n) for n in range(1, 10)])
    refs = read_refs(layout, "mini")
    assert len(refs.published) == 1 + codes.count(0)
    assert main(["publish", str(make_folder(tmp_path / "9", 9)), "--model", "mini", "--root", str(layout.root)]) == 0
    assert list(layout.incoming("mini").iterdir()) == []


@contextmanager
def mounted_disk(disk: Path, size: str, inodes: int) -> Iterator[Path]:
    needs_root("mounts a small file system")
    needs("mount")
    disk.mkdir()
    options = f"size={size},nr_inodes={inodes}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=False)
    if mounted.returncode:
        missing("this container may not mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB and 60 inodes."""
    with mounted_disk(tmp_path / "disk", "2m", 60) as disk:
        yield disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """One that holds a model several times."""
    with mounted_disk(tmp_path / "disk", "8m", 200) as disk:
        yield disk


def touched(folder: Path, n: int) -> list[Path]:
    """So many files as there are inodes for, at most `n`."""
    made = []
    with contextlib.suppress(OSError):
        for number in range(n):
            (folder / f"filler{number}").touch()
            made.append(folder / f"filler{number}")
    return made


def test_a_disk_without_room_is_told_before_anything_is_copied(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = new_store(small_disk / "efs")
    published(layout, make_folder(tmp_path / "1", 1))
    before = tree(layout.root)
    big = make_folder(tmp_path / "2", 2, rows=40_000)
    assert main(["publish", str(big), "--model", "mini", "--root", str(layout.root)]) == 1
    assert "no room in" in capsys.readouterr().err.splitlines()[-1]
    assert tree(layout.root) == before


def test_a_disk_that_fills_up_on_the_way_leaves_what_was(
    small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = new_store(small_disk / "efs")
    published(layout, make_folder(tmp_path / "1", 1))
    free_inodes = os.statvfs(small_disk).f_favail
    folder = make_folder(tmp_path / "2", 2)
    failures = 0
    for spare in range(free_inodes):
        fillers = [small_disk / f"filler{n}" for n in range(free_inodes - spare)]
        for filler in fillers:
            filler.touch()
        before = tree(layout.root)
        code = main(["publish", str(folder), "--model", "mini", "--root", str(layout.root)])
        error = capsys.readouterr().err.splitlines()[-1]
        for filler in fillers:
            filler.unlink()
        if code == 0:
            break
        failures += 1
        assert code == 1
        assert "No space left on device" in error
        assert tree(layout.root) == before
    assert failures > 5
    assert_consistent(layout, ["2"])


CHANGING: Sequence[Sequence[str]] = (
    ["promote", "mini", "2"],
    ["rollback", "mini"],
    ["retire", "mini", "1"],
    ["retire", "mini", "0", "--undo"],
    ["delete", "mini", "--yes"],
    ["rename", "mini", "new"],
    ["copy", "mini", "new"],
    ["gc"],
)


@pytest.mark.parametrize("command", CHANGING, ids=" ".join)
def test_a_full_disk_stops_any_command_and_loses_nothing(
    disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: Sequence[str]
) -> None:
    """With no inode left, then one, and so on: what serves is whole, and the command works once there is room."""
    layout = new_store(disk / "efs")
    for version in ("0", "1", "2", "3"):
        folder = make_folder(tmp_path / version, int(version) + 1)
        assert main(["publish", str(folder), "--model", "mini", "--version", version, "--root", str(layout.root)]) == 0
    if "--undo" in command or command == ["gc"]:
        assert main(["retire", "mini", "0", "--root", str(layout.root)]) == 0
    for spare in range(100):
        fillers = touched(disk, os.statvfs(disk).f_favail - spare)
        capsys.readouterr()
        code = main([*command, "--root", str(layout.root)])
        error = capsys.readouterr().err
        for filler in fillers:
            filler.unlink()
        assert "Traceback" not in error
        for name, seen in Repository(layout.root).observe(None).items():
            assert seen.refused == {} or seen.refs is None, (name, seen.refused)
            for number in seen.manifests:
                assert wrong_files(seen.manifests[number].files, seen.sources[number]) == []
        if code == 0:
            break
        assert code == 1, error
        assert "No space left on device" in error or "no room" in error
    assert code == 0, "it never found room"


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_are_off_change_nothing(layout: Layout, tmp_path: Path, hours: int) -> None:
    def shift() -> None:
        for path in [layout.root, *layout.root.rglob("*")]:
            info = path.stat()
            os.utime(path, (info.st_atime + hours * 3600, info.st_mtime + hours * 3600))

    dead = layout.incoming("mini") / "dead"
    dead.mkdir(parents=True)
    (dead / "half.json").write_text("{")
    for seed in (1, 2, 3):
        shift()
        published(layout, make_folder(tmp_path / str(seed), seed))
        shift()
        assert_consistent(layout, [str(seed)])
    assert list(layout.incoming("mini").iterdir()) == []
