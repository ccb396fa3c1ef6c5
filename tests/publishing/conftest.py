"""Most tests publish folders that are whole in structure only: nothing is loaded but where a test is about that."""

from pathlib import Path

import pytest

from model_api.publishing.commands import checking
from model_api.repository.layout import Layout
from tests.rigs.stores import new_store


@pytest.fixture(autouse=True)
def nothing_to_load_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine seems to lack what a real load needs, as an author's laptop may."""
    if "loads" not in request.keywords:
        monkeypatch.setattr(checking, "lacking", lambda task: "torch")


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """An empty store, which the commands find."""
    monkeypatch.setenv("MODEL_API_EFS_ROOT", str(tmp_path / "efs"))
    return new_store(tmp_path / "efs")
