"""An author who overwrites a published version in place: neither the running instance nor the next one follows."""

from pathlib import Path

import pytest

from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import server

pytestmark = pytest.mark.integration


def test_weights_overwritten_in_place_change_no_answer_here(tiny_author: Author, tmp_path: Path) -> None:
    text = {"model": "tiny", "inputs": ["the cat and the dog", "weights published once"]}
    settings = {"MODEL_API_EFS_ROOT": tiny_author.layout.root}
    with server(tmp_path / "api", **settings) as api:
        api.wait_until_ready()
        before = api.post("/predict", text).json()
        other = tiny_model(tmp_path / "other", seed=9)
        with tiny_author.weights("tiny", "1").open("rb+") as stream:  # the inode stays, as with scp
            stream.write((other / "model.safetensors").read_bytes())
        after = api.post("/predict", text).json()
        assert after == before
    with server(tmp_path / "api", **settings) as api:  # the same local store
        api.wait_until_ready()
        assert api.post("/predict", text).json() == before
