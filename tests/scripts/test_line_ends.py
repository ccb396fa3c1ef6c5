"""A git that likes \\r\\n, as on Windows, still checks every script and hook out with the line ends that bash reads."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.needs import needs
from tests.rigs.project import ROOT


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    needs("git")
    return git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").strip("\0").split("\0")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, tracked: list[str]) -> Path:
    """All tracked files, committed and checked out again by a git that turns line ends where it may."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    turning = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf", "-c", "core.safecrlf=false"]
    git(folder, "init", "--quiet")
    git(folder, *turning, "add", "--all", "--force")
    git(folder, *turning, "commit", "--quiet", "-m", "all")
    for entry in folder.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    git(folder, *turning, "checkout", "--quiet", "--force", "HEAD", "--", ".")
    return folder


def test_no_text_gets_other_line_ends(checkout: Path, tracked: list[str]) -> None:
    names = [name for name in tracked if (ROOT / name).is_file()]
    changed = [name for name in names if (checkout / name).read_bytes() != (ROOT / name).read_bytes()]
    assert changed == []
    assert any(name.endswith(".safetensors") for name in names)


def test_the_same_checkout_without_gitattributes_would_break_hooks(checkout: Path, tmp_path: Path) -> None:
    """The other tests would notice: this git does turn line ends."""
    git(tmp_path, "clone", "--quiet", "--no-checkout", str(checkout), "plain")
    plain = tmp_path / "plain"
    (plain / ".git/info/attributes").write_text("* text=auto eol=crlf\n")
    git(plain, "checkout", "--quiet")
    assert b"bash\r\n" in (plain / ".platform/hooks/prebuild/20_stage_wheels.sh").read_bytes()


def test_what_starts_with_a_shebang_is_committed_with_plain_line_ends(tracked: list[str]) -> None:
    scripts = [name for name in tracked if (ROOT / name).is_file() and (ROOT / name).read_bytes()[:2] == b"#!"]
    assert len(scripts) > 20
    answers = git(ROOT, "check-attr", "eol", "--", *scripts).splitlines()
    assert [line for line in answers if not line.endswith(": eol: lf")] == []
    assert [name for name in scripts if b"\r" in (ROOT / name).read_bytes()] == []
    assert [name for name in scripts if not os.access(ROOT / name, os.X_OK) and "/bin/" not in name] == []
