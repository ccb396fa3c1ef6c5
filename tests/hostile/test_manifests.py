"""A manifest written by hand lists only what a publish would have let through."""

import json
from pathlib import Path

import pytest

from model_api.errors import Refused
from model_api.instance.planning import Phase
from model_api.repository.manifest import FileEntry, Manifest
from tests.rigs.author import Author
from tests.rigs.server import server


@pytest.mark.parametrize(
    "path",
    [
        ".converted/ctranslate2-4.8.5-1-int8/model.bin",
        ".converted/ctranslate2-4.8.5-1-int8/config.json",
        "a/.hidden.json",
        ".used",
        "model.bin",
        "weights.pt",
        "run.py",
        "library.so",
        "model.onnx",
        "new\nline.json",
    ],
)
def test_what_no_publish_lets_through_is_refused_in_a_manifest(path: str) -> None:
    text = Manifest("m", "1", "embedding", (FileEntry(path, 1, "0" * 64),), 1).to_json()
    with pytest.raises(Refused, match=r"manifest\.json"):
        Manifest.from_json(text)


@pytest.mark.integration
def test_its_neighbours_serve(tmp_path: Path, tiny_author: Author) -> None:
    """Written past every check, into a version that refs.json names."""
    one = tiny_author.layout.version("tiny", "1")
    evil = tiny_author.layout.version("evil", "1")
    evil.mkdir(parents=True)
    for file in one.iterdir():
        (evil / file.name).write_bytes(file.read_bytes())
    native = FileEntry(".converted/ctranslate2-4.8.5-1-int8/model.bin", 3, "0" * 64)
    good = Manifest.from_json((one / "manifest.json").read_bytes())
    manifest = Manifest("evil", "1", "summarization", (*good.files, native), good.memory_bytes)
    (evil / "manifest.json").write_text(manifest.to_json())
    refs = json.loads(tiny_author.layout.refs("tiny").read_text())
    refs["stable"]["digest"] = refs["published"]["1"] = manifest.digest
    tiny_author.layout.refs("evil").write_text(json.dumps(refs))
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tiny_author.layout.root) as api:
        api.wait_for_model("tiny", state="serving")
        evil_model = api.wait_for_model("evil", state=str(Phase.REFUSED))
        assert "begins with a dot" in evil_model["refused"][0]["reason"]
        assert api.post("/predict", {"model": "tiny", "inputs": "the cat"}).status == 200
