"""What a test needs from the machine: absent, it skips with the reason; in CI, where all is installed, it fails."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest


def needs(program: str) -> None:
    """Require `program`: a name on PATH, or the absolute path of a file or device."""
    found = Path(program).exists() if program.startswith("/") else shutil.which(program, path=_search_path())
    if not found:
        missing(f"{program} is not on this machine")


def needs_root(why: str) -> None:
    """Require root, which mounts and network namespaces are made with."""
    if os.geteuid() != 0:
        missing(f"not root: {why}")


def needs_package(name: str) -> None:
    """Require an importable package that not every installation has."""
    if importlib.util.find_spec(name) is None:
        missing(f"the package {name} is not installed")


def missing(reason: str) -> None:
    """Skip for `reason`; where the environment has CI set, fail."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have what its tests need: {reason}", pytrace=False)
    pytest.skip(reason)


def _search_path() -> str:
    # Daemons live in sbin, which an ordinary user's PATH may lack.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
