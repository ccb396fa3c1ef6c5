"""A server whose processes a test may end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rigs.server import Server, server


@pytest.fixture
def api(tmp_path: Path, tiny_store: Path) -> Iterator[Server]:
    """Ready, with one model, `tiny`, on two lanes."""
    settings = {"MODEL_API_EFS_ROOT": tiny_store, "MODEL_API_MODELS": "tiny", "MODEL_API_LANES": 2}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready()
        yield api
