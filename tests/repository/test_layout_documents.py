"""The example store and the manifest's schema say what the code does."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from model_api.local_store.parallel_copy import wrong_files
from model_api.publishing.commands.main import VERBS, main
from model_api.repository.accuracy import Accuracy
from model_api.repository.folder_content import hash_folder
from model_api.repository.folder_signature import take_signature
from model_api.repository.layout import Layout
from model_api.repository.manifest import MANIFEST_NAME, Manifest
from model_api.repository.reader import Repository
from model_api.repository.refs import REFS_NAME, Refs
from model_api.repository.statuses import read_statuses
from tests.rigs.author import Author
from tests.rigs.model_folders import make_folder
from tests.rigs.project import ROOT
from tests.rigs.server import server
from tests.rigs.stores import new_store, published

LAYOUT_FOLDER = ROOT / "efs_layout"
MEASURED = Accuracy("int8", 64, 0.9876, 0.9981, 0.03, 0.99, 5, None)
EXAMPLE = Layout(LAYOUT_FOLDER / "example")
SCHEMA = json.loads((LAYOUT_FOLDER / "manifest.schema.json").read_text())
REFS_SCHEMA = json.loads((LAYOUT_FOLDER / "refs.schema.json").read_text())


def test_the_example_is_a_store_that_serves() -> None:
    seen = Repository(EXAMPLE.root).observe(None)["example"]
    assert seen.refused == {}
    assert seen.refs is not None
    assert seen.refs.named() == dict(seen.refs.published)
    for version, manifest in seen.manifests.items():
        assert wrong_files(manifest.files, seen.sources[version]) == []
    (status,) = read_statuses(EXAMPLE.statuses).values()
    assert seen.refs.stable is not None
    assert status.state_of("example", seen.refs.stable.digest) == "serving"


@pytest.mark.integration
def test_the_example_is_served(tmp_path: Path) -> None:
    """Both versions load, and the second one's probe holds."""
    shutil.copytree(EXAMPLE.root, tmp_path / "efs")
    with server(tmp_path / "api", MODEL_API_EFS_ROOT=tmp_path / "efs") as api:
        api.wait_until_ready()
        assert api.get("/models/example").json()["refused"] == []
        answer = api.post("/sim", {"target": "the cat", "texts": ["the cat", "rain"]})
        assert (answer.status, answer.headers["x-model-version"]) == (200, "2")
        assert answer.json()["context"]["sims"][0] == pytest.approx(1, abs=0.01)
        Author(tmp_path / "efs").rollback("example")
        api.wait_for_model("example", version="1", state="serving")


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_examples_manifests_fit_the_schema(version: str) -> None:
    jsonschema.validate(json.loads((EXAMPLE.version("example", version) / MANIFEST_NAME).read_text()), SCHEMA)


def test_refs_fit_their_schema(tmp_path: Path) -> None:
    jsonschema.validate(json.loads(EXAMPLE.refs("example").read_text()), REFS_SCHEMA)
    layout = new_store(tmp_path / "efs")
    for seed in (1, 2, 3):
        published(layout, make_folder(tmp_path / str(seed), seed))
    for arguments in (["rollback", "mini"], ["delete", "mini", "--yes"]):
        assert main([*arguments, "--root", str(layout.root)]) == 0
        document = json.loads(layout.refs("mini").read_text())
        jsonschema.validate(document, REFS_SCHEMA)
        assert set(document) <= set(REFS_SCHEMA["properties"])


@pytest.mark.parametrize(
    "change",
    [
        {"generation": -1},
        {"stable": {"version": "1"}},
        {"last_good": {"version": "../1", "digest": "0" * 64}},
        {"canary": {"version": "1", "digest": "0" * 64, "percent": 0}},
        {"published": {"1": "short"}},
        {"proven": ["Upper"]},
        {"refused": {"../1": "bad"}},
    ],
)
def test_the_refs_schema_and_the_reader_refuse_the_same(change: dict[str, object]) -> None:
    document = json.loads(EXAMPLE.refs("example").read_text()) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, REFS_SCHEMA)
    with pytest.raises(Exception, match=REFS_NAME):
        Refs.from_json(json.dumps(document))


def test_what_publish_writes_fits_the_schema(tmp_path: Path) -> None:
    layout = new_store(tmp_path / "efs")
    published(layout, make_folder(tmp_path / "a"), options={"pooling": "cls"})
    jsonschema.validate(json.loads((layout.version("mini", "1") / MANIFEST_NAME).read_text()), SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "Upper"},
        {"version": "../1"},
        {"digest": "short"},
        {"files": []},
        {"files": [{"path": "../x", "size": 1, "sha256": "0" * 64}]},
        {"files": [{"path": "x", "size": -1, "sha256": "0" * 64}]},
        {"memory_bytes": "much"},
        {"probes": [{"inputs": ["a"]}]},
        {"accuracy": {**MEASURED.to_document(), "precision": "int4"}},
        {"accuracy": {**MEASURED.to_document(), "min_cosine": 1.5}},
        {"accuracy": {**MEASURED.to_document(), "texts": 1}},
        {"accuracy": {**MEASURED.to_document(), "nearest_changed": 0.5}},
        {"accuracy": {**MEASURED.to_document(), "labels_changed": "3"}},
        {"accuracy": {"precision": "int8"}},
        {"accuracy": []},
    ],
)
def test_schema_and_reader_refuse_the_same(change: dict[str, object]) -> None:
    document = json.loads((EXAMPLE.version("example", "1") / MANIFEST_NAME).read_text()) | change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)
    with pytest.raises(Exception, match=MANIFEST_NAME):
        Manifest.from_json(json.dumps(document))


def test_a_measured_accuracy_fits_the_schema_and_is_no_part_of_the_digest() -> None:
    plain = Manifest.from_json((EXAMPLE.version("example", "1") / MANIFEST_NAME).read_text())
    measured = replace(plain, accuracy=MEASURED)
    jsonschema.validate(json.loads(measured.to_json()), SCHEMA)
    assert Manifest.from_json(measured.to_json()) == measured
    assert measured.digest == plain.digest


def test_a_plain_folders_manifest_fits_the_schema_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "a")
    manifest = hash_folder("mini", folder, take_signature(folder))
    jsonschema.validate(json.loads(manifest.to_json()), SCHEMA)


def test_the_readme_names_commands_and_options_that_exist() -> None:
    text = (LAYOUT_FOLDER / "README.md").read_text()
    commands = set(re.findall(r"scripts/([a-z]+)", text))
    assert commands == set(VERBS)
    scripts = [LAYOUT_FOLDER.parent / "scripts" / command for command in commands]
    help_text = "".join(
        subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout for script in scripts
    )
    for option in set(re.findall(r"(?<![\w-])--(?!inplace|preallocate)[a-z-]+", text)):
        assert option in help_text
