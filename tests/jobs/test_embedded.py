"""What only the embedded store can meet: full disks, newer files, folders of a network, workers of this machine."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from model_api.errors import JobsDown
from model_api.jobs.objects import FileObjects, ObjectGone, Signer, put, read_secret
from model_api.jobs.presence import Presence
from model_api.jobs.records import SCHEMA_VERSION, SqliteRecords
from tests.jobs.test_store_contract import NOW, a_job
from tests.needs import needs_root
from tests.rigs.project import ROOT


def test_a_file_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    SqliteRecords(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    before = file.read_bytes()
    with pytest.raises(JobsDown, match="newer release"):
        SqliteRecords(file)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no database, and long enough to tell " * 100)
    with pytest.raises(JobsDown, match="not a database"):
        SqliteRecords(tmp_path / "jobs.sqlite")


def test_two_processes_may_open_an_empty_file_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from model_api.jobs.records import SqliteRecords;"
        "SqliteRecords(Path(sys.argv[1])).close()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "jobs.sqlite")]
    running = [subprocess.Popen(command, cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4


def write_megabytes(objects: FileObjects, key: str) -> None:
    with objects.writer(key, "text/csv") as stream:
        for _ in range(100):
            stream.write(b"x" * 2**20)


def test_what_callers_send_leaves_room_on_the_disk(tmp_path: Path) -> None:
    needs_root("mounts a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "none", disk], check=True)
    try:
        objects = FileObjects(disk / "objects", Signer(b"secret"))
        with pytest.raises(JobsDown, match="nearly full"):
            put(objects, "uploads/a." + "0" * 32, b"x" * (19 * 2**20 + 2**19))
        put(objects, "uploads/a." + "0" * 32, b"x" * (18 * 2**20))
        with pytest.raises(JobsDown, match="nearly full"):
            write_megabytes(objects, "uploads/b." + "0" * 32)
        assert shutil.disk_usage(disk).free >= 2**20  # and what didn't fit is gone
    finally:
        subprocess.run(["umount", disk], check=True)


def add_many(records: SqliteRecords) -> None:
    for i in range(100):
        records.add(a_job("b", id=f"{i:064}", kind="x" * 3000))


def test_a_full_disk_loses_nothing_and_passes(tmp_path: Path) -> None:
    needs_root("mounts a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], check=True)
    try:
        records = SqliteRecords(disk / "jobs.sqlite", lambda: NOW)
        objects = FileObjects(disk / "objects", Signer(b"secret"))
        kept = a_job("a")
        assert records.add(kept)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(b"x" * 4096)
        with pytest.raises(JobsDown, match="full"):
            add_many(records)
        with pytest.raises(JobsDown, match="nearly full"):
            put(objects, "results/a." + "0" * 32, b"x")
        assert records.get(kept.id) == kept
        filler.unlink()
        assert records.add(a_job("c"))
        assert records.get(kept.id) == kept
        records.close()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_keys_lead_nowhere_else(tmp_path: Path) -> None:
    objects = FileObjects(tmp_path / "objects", Signer(b"secret"))
    (tmp_path / "secret").write_text("s")
    for key in ("../secret", "results/../../secret", "results/x", "/etc/passwd", "results/a.b/../../../secret", ""):
        with pytest.raises(ObjectGone):
            objects.path(key)


def test_signed_paths_hold_for_what_was_signed_alone() -> None:
    signer = Signer(b"one")
    query = dict(part.split("=") for part in signer.query("GET", "/jobs/objects/a", 1000, type="x").split("&"))
    assert signer.holds("GET", "/jobs/objects/a", 999.0, query)
    assert not signer.holds("GET", "/jobs/objects/a", 1000.0, query)
    assert not signer.holds("PUT", "/jobs/objects/a", 999.0, query)
    assert not signer.holds("GET", "/jobs/objects/b", 999.0, query)
    assert not signer.holds("GET", "/jobs/objects/a", 999.0, {**query, "type": "y"})
    assert not signer.holds("GET", "/jobs/objects/a", 999.0, {**query, "more": "y"})
    assert not signer.holds("GET", "/jobs/objects/a", 999.0, {**query, "expires": "9999"})
    assert not signer.holds("GET", "/jobs/objects/a", 999.0, {"signature": "é", "expires": "²"})
    assert not Signer(b"two").holds("GET", "/jobs/objects/a", 999.0, query)


def test_a_secret_is_made_once_and_read_by_nobody_else(tmp_path: Path) -> None:
    secret = read_secret(tmp_path / "secret")
    assert read_secret(tmp_path / "secret") == secret
    assert (tmp_path / "secret").stat().st_mode & 0o077 == 0
    assert [file.name for file in tmp_path.iterdir()] == ["secret"]
    (tmp_path / "secret").write_text("short")
    with pytest.raises(JobsDown, match="too short"):
        read_secret(tmp_path / "secret")


def test_a_worker_is_gone_when_its_process_is(tmp_path: Path) -> None:
    mine = Presence(tmp_path)
    code = (
        "import sys; from pathlib import Path; from model_api.jobs.presence import Presence;"
        "print(Presence(Path(sys.argv[1])).name, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        name = other.stdout.readline().strip()
        assert not mine.is_gone(name)
        other.kill()
        other.wait()
    assert mine.is_gone(name)
    assert mine.is_gone(name)
    assert not mine.is_gone(mine.name)
    assert not mine.is_gone("../secret")
    assert not mine.is_gone("fleet-i-1234")
    assert os.listdir(tmp_path) == [mine.name]  # noqa: PTH208
    mine.close()
