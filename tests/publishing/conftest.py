"""Most tests publish folders that are whole in structure only: nothing is loaded but where a test is about that."""

import pytest

from model_api.publishing.commands import checking


@pytest.fixture(autouse=True)
def nothing_to_load_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine seems to lack what a real load needs, as an author's laptop may."""
    if "loads" not in request.keywords:
        monkeypatch.setattr(checking, "lacking", lambda: "torch")
