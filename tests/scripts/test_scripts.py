"""Every script works wherever it is called from and whatever its caller's shell has set."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.package_index import PackageIndex
from tests.rigs.project import ROOT

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file() and path.suffix == "")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that a shell with CDPATH set would take for the project's: it has a `scripts`, with nothing in it."""
    (tmp_path / "decoy" / "scripts").mkdir(parents=True)
    return tmp_path / "decoy"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_printed_wherever_a_script_is_called_from(script: str, elsewhere: Path) -> None:
    """From the project's folder, from `scripts` itself and from a neighbour, with CDPATH leading astray."""
    environment = {**os.environ, "CDPATH": str(elsewhere), "LC_ALL": "C", "PYTHONPATH": str(elsewhere)}
    calls = [(ROOT, f"scripts/{script}"), (ROOT / "scripts", f"./{script}"), (ROOT / "docs", f"../scripts/{script}")]
    answers = []
    for folder, command in calls:
        done = subprocess.run(
            [command, "--help"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert answers[0].strip()
    assert answers.count(answers[0]) == len(answers)


@pytest.mark.parametrize(
    "setting",
    [
        {"PIP_TARGET": "/nonexistent"},
        {"PIP_USER": "1"},
        {"PIP_PREFIX": "/nonexistent"},
        {"PIP_CONSTRAINT": "/nonexistent"},
        {"PIP_NO_DEPS": "1", "PIP_REQUIREMENT": "/nonexistent"},
        {"PIP_REQUIRE_VIRTUALENV": "nonsense", "PIP_DRY_RUN": "1"},
        {"PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent", "PYTHONWARNINGS": "error"},
    ],
    ids=lambda setting: "+".join(setting),
)
def test_pip_is_told_by_its_host_where_packages_are_and_nothing_else(setting: dict[str, str], tmp_path: Path) -> None:
    index = PackageIndex(tmp_path / "index")
    index.add_wheel("toy", "1.0")
    environment = {**os.environ, **setting, "PIP_INDEX_URL": index.url}
    command = [str(ROOT / "scripts/pip"), sys.executable, "install", "--target", str(tmp_path / "site"), "toy"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/toy.py").exists()


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_setup_says_which_python_it_needs(tmp_path: Path, version: str) -> None:
    """The only Python on PATH is too old or too new: one line, and no environment half made."""
    project = tmp_path / "project"
    (project / "scripts").mkdir(parents=True)
    for name in ("setup", "venv", "install", "install-torch", "native", "pip"):
        shutil.copy(ROOT / "scripts" / name, project / "scripts")
    shutil.copytree(ROOT / "native", project / "native", ignore=shutil.ignore_patterns("build", "dist", "*.so"))
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, project)
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "env", "dirname", "cat", "sha256sum", "cut", "touch"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    release = tuple(map(int, version.split(".")))
    fake = f"import sys; sys.version_info = {(*release, 0)}; exec(sys.argv[2])"
    (tools / "python3").write_text(f"#!/bin/sh\nexec {sys.executable} -c '{fake}' \"$@\"\n")
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        [project / "scripts/setup"], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "setup: needs Python 3.11, 3.12 or 3.13 on PATH\n")
    assert not (project / ".venv").exists()


def test_the_tests_are_set_up_without_npm_and_java(tmp_path: Path) -> None:
    """What few machines have is missed by the tests that need it, not by scripts/test."""
    project, tools = tmp_path / "project", tmp_path / "tools"
    (project / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup-dynamodb-local", project / "scripts")
    tools.mkdir()
    for tool in ("bash", "env", "dirname"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    done = subprocess.run(
        [project / "scripts/setup-dynamodb-local"], env={"PATH": str(tools)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "no npm here" in done.stderr) == (0, True)
    assert not (project / ".venvs").exists()


def test_what_asks_this_machine_goes_through_no_proxy() -> None:
    """curl to loopback would otherwise wait for a proxy's answer, and read its caller's .curlrc."""
    asking = {}
    for path in [*(ROOT / "scripts").iterdir(), *(ROOT / ".platform/bin").iterdir()]:
        if path.is_file():
            lines = path.read_text(errors="replace").splitlines()
            own = [line for line in lines if "curl " in line and "--output" in line and "http://" in line]
            asking.update({f"{path.name}: {line.strip()}": line for line in own})
    assert asking
    assert [name for name, line in asking.items() if "curl -q --noproxy '*'" not in line] == []
