"""What each delay and fault of the EFS stand-in looks like to a reader, so that tests which use it mean something."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.polling import wait_until

pytestmark = pytest.mark.integration
MB = 10**6


@pytest.fixture
def efs(tmp_path: Path) -> Iterator[FuseEfs]:
    with fuse_efs(tmp_path) as mounted:
        yield mounted
    assert not os.path.ismount(tmp_path / "efs")


def read_all(path: Path, n_threads: int = 8, chunk_bytes: int = 8 * 2**20) -> int:
    """Bytes of `path`, read in parallel as a careful copier does."""
    with path.open("rb") as file, ThreadPoolExecutor(n_threads) as pool:
        offsets = range(0, os.fstat(file.fileno()).st_size, chunk_bytes)
        return sum(pool.map(lambda offset: len(os.pread(file.fileno(), chunk_bytes, offset)), offsets))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def background(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def reader(path: Path) -> "subprocess.Popen[bytes]":
    """A process that reads `path`, and would end in order at SIGTERM."""
    program = "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); open(sys.argv[1]).read()"
    return subprocess.Popen([sys.executable, "-c", program, path])


def error_of(action: Callable[[], object]) -> str:
    with pytest.raises(OSError) as caught:
        action()
    assert caught.value.errno is not None
    return errno.errorcode[caught.value.errno]


def test_it_passes_files_and_folders_through_in_both_directions(efs: FuseEfs) -> None:
    folder = efs.root / "models" / "m"
    folder.mkdir(parents=True)
    (folder / "staged").write_bytes(b"weights")
    (folder / "staged").rename(folder / "whole")
    os.link(folder / "whole", folder / "again")
    assert names(folder) == ["again", "whole"]
    assert (efs.backing / "models/m/whole").read_bytes() == b"weights"
    (efs.backing / "models/m/whole").write_bytes(b"by another client")
    assert (folder / "again").read_bytes() == b"by another client"
    assert (folder / "whole").stat().st_ino == (efs.backing / "models/m/whole").stat().st_ino


def test_every_operation_takes_the_latency_asked_for(efs: FuseEfs) -> None:
    (efs.backing / "file").write_text("x")
    efs.behave(latency_s=0.02)
    started = time.monotonic()
    for _ in range(5):
        (efs.root / "file").stat()
    assert time.monotonic() - started >= 5 * 0.02


@pytest.mark.parametrize("mb_per_s", [50, 200])
def test_it_sustains_the_rate_asked_for_and_no_more(efs: FuseEfs, mb_per_s: int) -> None:
    (efs.backing / "weights").write_bytes(os.urandom(mb_per_s * MB))  # a second's worth
    efs.behave(latency_s=0.003, bytes_per_s=mb_per_s * MB)
    started = time.monotonic()
    assert read_all(efs.root / "weights") == mb_per_s * MB
    elapsed_s = time.monotonic() - started
    print(f"asked for {mb_per_s} MB/s, gave {mb_per_s / elapsed_s:.0f}")
    assert 0.95 <= elapsed_s <= 1.5


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EACCES"])
def test_an_error_comes_on_the_path_and_operation_asked_for(efs: FuseEfs, error: str) -> None:
    (efs.backing / "bad").write_text("x")
    (efs.backing / "good").write_text("x")
    efs.fail(error, "/bad", "read")
    assert (efs.root / "bad").stat().st_size == 1
    assert error_of((efs.root / "bad").read_text) == error
    assert (efs.root / "good").read_text() == "x"
    efs.heal()
    assert (efs.root / "bad").read_text() == "x"


def test_a_hang_holds_its_readers_and_nobody_else_until_healed(efs: FuseEfs) -> None:
    for n in range(20):
        (efs.backing / f"stuck-{n}").write_text("x")
    (efs.backing / "free").write_text("y")
    efs.hang("/stuck-*", "read")
    readers = [background((efs.root / f"stuck-{n}").read_text) for n in range(20)]
    wait_until(lambda: efs.counts()["hanging"] == 20)
    assert (efs.root / "free").read_text() == "y"
    efs.heal()
    for thread in readers:
        thread.join(10)
        assert not thread.is_alive()


def test_a_hang_of_everything_holds_a_listing_too(efs: FuseEfs) -> None:
    efs.hang()
    thread = background(lambda: names(efs.root))
    wait_until(lambda: efs.counts()["hanging"] >= 1)
    assert thread.is_alive()
    efs.heal()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("operation", ["read", "getattr", "open"])
def test_a_process_in_a_hang_can_be_killed_but_not_interrupted(efs: FuseEfs, operation: str) -> None:
    (efs.backing / "stuck").write_text("x" * 100_000)
    efs.hang("/stuck", operation)
    process = reader(efs.root / "stuck")
    wait_until(lambda: efs.counts()["hanging"] >= 1)
    process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.kill()
    assert process.wait(10) == -9


def test_the_marker_is_missing_once_unmounted_and_back_once_mounted(efs: FuseEfs) -> None:
    (efs.backing / ".model-store").write_text("1")
    assert (efs.root / ".model-store").read_text() == "1"
    efs.unmount()
    assert list(efs.root.iterdir()) == []
    efs.mount()
    assert (efs.root / ".model-store").read_text() == "1"


def test_unmounting_frees_whoever_hangs(efs: FuseEfs) -> None:
    (efs.backing / "stuck").write_text("x")
    efs.hang("/stuck")
    process = reader(efs.root / "stuck")
    wait_until(lambda: efs.counts()["hanging"] >= 1)
    efs.unmount()
    assert process.wait(10) == 1


def test_a_lost_server_is_an_error_not_a_hang(efs: FuseEfs) -> None:
    (efs.backing / "file").write_text("x")
    efs.lose_server()
    assert error_of((efs.root / "file").read_text) == "ENOTCONN"
    efs.unmount()
    efs.mount()
    assert (efs.root / "file").read_text() == "x"


def test_a_stale_name_still_means_the_file_that_was_replaced(efs: FuseEfs) -> None:
    refs, aside = efs.backing / "refs.json", efs.backing / "aside"
    refs.write_text("old")
    os.link(refs, efs.backing / "kept")
    efs.stale(60)
    assert (efs.root / "refs.json").read_text() == "old"
    aside.write_text("new")
    aside.rename(refs)
    assert (efs.root / "refs.json").read_text() == "old"
    (efs.backing / "kept").unlink()  # the last name of the old file: the server knows its handle no more
    assert error_of((efs.root / "refs.json").read_text) == "ESTALE"
    efs.stale(0)
    assert (efs.root / "refs.json").read_text() == "new"


def test_stale_absence_attributes_and_listings(efs: FuseEfs) -> None:
    (efs.backing / "there").write_text("12")
    efs.stale(60)
    assert not (efs.root / "late").exists()
    assert (efs.root / "there").stat().st_size == 2
    assert names(efs.root) == ["there"]
    (efs.backing / "late").write_text("now")
    (efs.backing / "there").write_text("12345")
    assert not (efs.root / "late").exists()
    assert (efs.root / "there").stat().st_size == 2
    assert names(efs.root) == ["there"]
    with (efs.root / "there").open() as file:  # close-to-open: an open asks afresh
        assert os.fstat(file.fileno()).st_size == 5
    efs.stale(0.01)
    wait_until((efs.root / "late").exists)


def test_a_file_truncated_while_it_is_read_ends_early(efs: FuseEfs) -> None:
    (efs.backing / "weights").write_bytes(b"x" * (4 * MB))
    with (efs.root / "weights").open("rb") as file:
        assert len(os.pread(file.fileno(), 4096, 0)) == 4096
        os.truncate(efs.backing / "weights", MB)
        assert len(os.pread(file.fileno(), 4096, 3 * MB)) == 0
