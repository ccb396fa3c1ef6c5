"""Before any test, this machine's own ways are shut out (rigs/host.py). Then: stores with real models, and servers over
them, shared by the tests of a module where they only read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.rigs import host
from tests.rigs.author import Author
from tests.rigs.models import minilm_folder, tiny_model
from tests.rigs.server import Server, server

# At import, not in a fixture: test modules read the environment when they are imported.
host.expect_utf8()
_folder = Path(tempfile.mkdtemp(prefix="tests-home-"))
host.shut_out(_folder / "home")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's, before it starts a worker."""
    node.workerinput["host_environment"] = host.ENVIRONMENT


def pytest_unconfigure() -> None:
    shutil.rmtree(_folder, ignore_errors=True)


# How long an example takes is the machine's affair, which others use too.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    if workerinput := getattr(config, "workerinput", None):
        host.ENVIRONMENT = workerinput["host_environment"]
    else:
        config.pluginmanager.register(FailuresAtOnce(config))


class FailuresAtOnce:
    """Tells a failure when it happens: who ends a run that takes too long has still read why."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message.splitlines()[0] if crash and crash.message else ""
            terminal = self._config.pluginmanager.getplugin("terminalreporter")
            terminal.write_line(f"\n{report.when} of {report.nodeid} failed after {report.duration:.0f} s: {message}")


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes may hold a time, as gzip's do; then no two workers would agree on what the tests are called."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def _no_test_changes_how_the_others_are_scheduled() -> Iterator[None]:
    """A library that made its thread a real-time one let all later tests' servers starve: the suite took hours."""
    before = os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)
    yield
    assert (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0)) == before


@pytest.fixture(scope="session")
def minilm_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EFS root where the real minilm is published. Read-only by convention."""
    root = tmp_path_factory.mktemp("minilm") / "efs"
    root.mkdir()
    Author(root).publish(minilm_folder(), "minilm", "1")
    return root


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An EFS root with two small models, `tiny` and, published later, `second`."""
    folder = tmp_path_factory.mktemp("tiny")
    root = folder / "efs"
    root.mkdir()
    author = Author(root)
    author.publish(tiny_model(folder / "tiny", seed=1), "tiny")
    author.publish(tiny_model(folder / "second", seed=2), "second")
    return root


@pytest.fixture(scope="module")
def minilm_api(tmp_path_factory: pytest.TempPathFactory, minilm_store: Path) -> Iterator[Server]:
    """A ready server of the real minilm in its default precision."""
    with server(tmp_path_factory.mktemp("api"), MODEL_API_EFS_ROOT=minilm_store) as api:
        api.wait_until_ready()
        yield api


@pytest.fixture
def tiny_author(tmp_path: Path) -> Author:
    """An author of this test's own store, who has published version 1 of a small model, `tiny`."""
    (tmp_path / "efs").mkdir()
    author = Author(tmp_path / "efs")
    author.publish(tiny_model(tmp_path / "one", seed=1), "tiny")
    return author
