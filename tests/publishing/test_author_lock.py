"""A command that was stopped in mid-change: the others are told who it is, wait no longer than they must, and go on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from model_api.errors import RefsConflict
from model_api.publishing import author_lock as locks
from model_api.publishing.announce import wake
from model_api.publishing.author_lock import author_lock
from model_api.publishing.changes import read_refs
from model_api.publishing.terms import this_author
from model_api.repository.layout import Layout
from tests.rigs.commands import run
from tests.rigs.model_folders import make_folder
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.stores import new_store, published

HOLD = """
import sys
from pathlib import Path
from model_api.publishing.author_lock import author_lock
with author_lock(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    sys.stdin.read()
"""
LOCKS = ["model", "generation"]


@pytest.fixture
def two_versions(layout: Layout, tmp_path: Path) -> Layout:
    for seed in (1, 2):
        published(layout, make_folder(tmp_path / f"m{seed}", seed))
    return layout


@contextmanager
def stopped_author(path: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as author:
        assert author.stdout is not None
        assert author.stdout.readline() == "held\n"
        author.send_signal(signal.SIGSTOP)
        wait_until(lambda: Path(f"/proc/{author.pid}/stat").read_text().split()[2] == "T")
        try:
            yield author
        finally:
            author.kill()


def lock_of(layout: Layout, which: str) -> Path:
    return layout.lock("mini") if which == "model" else layout.generation_lock


@pytest.mark.parametrize("which", LOCKS)
def test_who_holds_it_since_when_and_where_and_what_to_do(
    which: str, two_versions: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 1.0)
    monkeypatch.setattr(locks, "_TELL_AFTER_S", 0.1)
    before, path = read_refs(two_versions, "mini"), lock_of(two_versions, which)
    with stopped_author(path) as author:
        assert run("promote", "mini", "1") == 1
        told = capsys.readouterr().err
        assert f"a command of {this_author()} (process {author.pid}) is at work on it since 20" in told
        assert "UTC; waiting, for 1 s at most" in told
        assert told.splitlines()[-1].endswith(
            f"waited for 1 s; if it was stopped, `kill -CONT {author.pid}` there, or end it;"
            f" if its host is gone, remove {path}"
        )
        assert read_refs(two_versions, "mini") == before
        path.unlink()  # as it says
        assert run("promote", "mini", "1") == 0
    assert read_refs(two_versions, "mini").stable is not None


@pytest.mark.parametrize("which", LOCKS)
def test_who_waits_goes_on_when_the_other_ends_or_is_continued(
    which: str, two_versions: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (signal.SIGKILL, signal.SIGCONT):
        with stopped_author(lock_of(two_versions, which)) as author:
            assert author.stdin is not None

            def end(path: Path, author: subprocess.Popen[str] = author, number: int = number) -> str:
                author.send_signal(number)
                author.communicate("")
                return "somebody is at work"

            monkeypatch.setattr(locks, "_TELL_AFTER_S", 0.05)
            monkeypatch.setattr(locks, "_who", end)
            assert run("promote", "mini", "1" if number == signal.SIGKILL else "2") == 0


def test_a_command_that_only_wakes_the_instances_waits_for_nobody_long(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_api.publishing.announce._WAKE_PATIENCE_S", 0.1)
    with stopped_author(layout.generation_lock):
        wake(layout, "mini")  # raises nothing


def test_the_note_goes_with_the_lock_and_is_believed_in_no_further(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with author_lock(path, "mini"):
        assert path.stat().st_size > 0
    assert path.read_bytes() == b""
    notes = [b"", b"{", b"[]", b'{"since": "x"}', b"\xff\xfe", b'{"since": 1e999, "pid": {"a": 1}}', b'{"since": -5}']
    for note in [*notes, b'{"since": 1, "who": "' + b"x" * 100_000]:
        with stopped_author(path):
            path.write_bytes(note)
            with pytest.raises(RefsConflict, match=r"mini: .* at work on it.* remove "), author_lock(path, "mini", 0.0):
                pass


def test_an_author_of_another_user_shares_the_lock(tmp_path: Path) -> None:
    """The group may write what the folder lets it write: a note changes no mode."""
    layout = new_store(tmp_path / "efs")
    layout.models.chmod(0o2775)
    with author_lock(layout.generation_lock, "models/"):
        mode = layout.generation_lock.stat().st_mode
        assert mode & 0o060 == 0o060
    with author_lock(layout.generation_lock, "models/"):
        assert layout.generation_lock.stat().st_mode == mode
    assert os.access(layout.generation_lock, os.W_OK)
