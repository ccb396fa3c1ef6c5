"""Which version loads next: decided purely."""

import time
from pathlib import Path

import pytest

from model_api.instance.load_order import PATIENCE_S, LoadOrder
from model_api.instance.managed_model import ManagedModel
from model_api.instance.planning import Phase
from model_api.instance.version import Version
from model_api.repository.manifest import FileEntry, Manifest
from model_api.repository.published import Published
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.server import server


def model(name: str, *, serves: bool = False) -> ManagedModel:
    """With a version that waits for its turn."""
    manifest = Manifest(name, "1", "embedding", (FileEntry("config.json", 1, "a" * 64),), 0)
    version = Version(manifest)
    version.wait_for_turn()
    managed = ManagedModel(name, Published(name, None), {version.ref: version})
    if serves:
        managed.serving = Version(manifest)
    return managed


def order(
    models: list[ManagedModel], asked_at: dict[str, float], names: list[str] | None, sim: str | None
) -> list[str]:
    """The names in which they load, one after the other."""
    loads, found = LoadOrder(1, names, sim), []
    while version := loads.next(models, asked_at):
        found.append(version.name)
        version.start_over()
        version.phase = Phase.READY
    return found


def test_what_answers_for_nothing_yet_comes_first_then_the_promised_then_sims_then_the_asked_for() -> None:
    models = [model(name) for name in "abcdef"] + [model("swap", serves=True)]
    assert order(models, {}, None, None) == ["a", "b", "c", "d", "e", "f", "swap"]
    models = [model(name) for name in "abcdef"] + [model("swap", serves=True)]
    asked_at = {"b": 10.0, "e": 20.0, "swap": 99.0}
    assert order(models, asked_at, ["f", "d"], "c") == ["f", "d", "c", "e", "b", "a", "swap"]


def test_a_few_at_a_time_and_one_that_hangs_keeps_nobody_waiting() -> None:
    models, loads = [model(name) for name in "abc"], LoadOrder(2, None, None)
    begun = []
    while version := loads.next(models, {}):
        version.start_over()
        begun.append(version)
    assert [version.name for version in begun] == ["a", "b"]
    begun[0].moved_at = time.monotonic() - PATIENCE_S - 1
    third = loads.next(models, {})
    assert third is not None
    assert third.name == "c"


@pytest.mark.integration
def test_many_models_start_a_few_at_a_time_the_promised_first(tmp_path: Path) -> None:
    author = Author(tmp_path / "efs")
    folder = tiny_model(tmp_path / "tiny", 1)
    names = [f"m{number}" for number in range(8)]
    for name in names:
        author.publish(folder, name)
    wanted = [*reversed(names)]
    settings = {"MODEL_API_EFS_ROOT": author.layout.root, "MODEL_API_LANES": 1, "MODEL_API_MODELS": ",".join(wanted)}
    with server(tmp_path / "instance", **settings) as api:
        most = 0
        while api.get("/readyz").status != 200:
            rows = api.get("/models").json()["models"]
            most = max(most, sum(row["state"] == "loading" for row in rows))
        told = [record["model"] for record in api.log_records() if record["message"] == "version copying"]
        begun = [*dict.fromkeys(told)]  # the first of a shape begins twice
    assert 1 <= most <= 2
    assert {*begun[:2]} == {*wanted[:2]}
    assert {*begun[-2:]} == {*wanted[-2:]}
