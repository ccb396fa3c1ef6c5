"""What real instances make of an author's changes: stand-ins at a start, pinned callers, deletions, /sim's model."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from model_api.repository.statuses import read_statuses
from tests.rigs.author import Author
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, model_api, server

pytestmark = pytest.mark.integration
WRONG_PROBE = '[{"inputs": ["the cat"], "outputs": [[1, 2, 3]]}]'


class Store:
    """A store, its author, and settings for its instances."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.author = Author(folder / "efs")
        self.root = f"--root={self.author.layout.root}"
        self.settings = {"MODEL_API_EFS_ROOT": self.author.layout.root, "MODEL_API_LANES": 1}

    def publish(self, seed: int, *more: str, name: str = "tiny") -> str:
        return model_api("publish", tiny_model(self.folder / f"e{seed}", seed), "--model", name, *more, self.root)

    def publish_bad(self, seed: int) -> None:
        probes = self.folder / "probes.json"
        probes.write_text(WRONG_PROBE)
        self.publish(seed, "--probe", str(probes), "--no-check")  # its author has no torch


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def refused_for_authors(store: Store, version: str) -> Callable[[], bool]:
    """An instance's status, which authors' commands read, follows its API a moment later."""

    def look() -> bool:
        told = [
            status.model("tiny").get("refused", ()) for status in read_statuses(store.author.layout.statuses).values()
        ]
        return any(one["version"] == version for refused in told for one in refused)

    return look


def test_two_refused_versions_and_a_restart(store: Store) -> None:
    """e1, bad1, bad2: an instance that starts serves e1, and is ready; then a rollback reaches both."""
    store.publish(1)
    with server(store.folder / "old", **store.settings) as old:
        old.wait_until_ready()
        store.publish_bad(2)
        wait_until(refused_for_authors(store, "2"), within_s=60, what="a refusal of version 2")
        store.publish_bad(3)
        wait_until(refused_for_authors(store, "3"), within_s=60, what="a refusal of version 3")
        with server(store.folder / "new", **store.settings) as new:
            new.wait_until_ready()
            for api in (old, new):
                api.wait_for_model("tiny", version="1", state="degraded")
            said = model_api("rollback", "tiny", "--wait", store.root)
            assert "version 1 is now stable (was 3)" in said
            assert "version 2 is passed over" in said
            assert "every live instance serves it" in said
            for api in (old, new):
                api.wait_for_model("tiny", version="1", state="serving")


def test_pinned_callers_are_answered_for_a_while_then_hear_since_when(store: Store) -> None:
    store.publish(1)
    with server(store.folder / "a", **store.settings, MODEL_API_PIN_S=5) as api:
        api.wait_until_ready()
        store.publish(2)
        api.wait_for_model("tiny", version="2", state="serving")
        pinned = {"model": "tiny@1", "inputs": "the cat"}
        answer = api.post("/predict", pinned)
        assert (answer.status, answer.json()["version"]) == (200, "1")
        wait_until(lambda: api.post("/predict", pinned).status == 404, within_s=60, what="the end of version 1")
        detail = api.post("/predict", pinned).json()["detail"]
        assert "tiny@1 is not loaded here: version 2 replaced it at 20" in detail
        assert "answered for 5 s after that" in detail
        wait_until(lambda: len(api.pids_by_role()["leader"]) == 1, within_s=60, what="the end of version 1")


def test_a_rollback_to_a_pinned_version_loads_nothing(store: Store) -> None:
    store.publish(1)
    with server(store.folder / "a", **store.settings, MODEL_API_PIN_S=600) as api:
        api.wait_until_ready()
        store.publish(2)
        api.wait_for_model("tiny", version="2", state="serving")
        leaders = sorted(api.pids_by_role()["leader"])
        assert len(leaders) == 2
        store.author.rollback("tiny")
        api.wait_for_model("tiny", version="1", state="serving")
        assert sorted(api.pids_by_role()["leader"]) == leaders
        model_api("retire", "tiny", "--all", "--wait", store.root)
        wait_until(lambda: not api.pids_by_role()["leader"], within_s=60, what="the end of both")


def test_a_pinned_version_makes_room_for_a_new_one(store: Store) -> None:
    store.publish(1)
    with server(store.folder / "a", **store.settings) as probe:
        probe.wait_until_ready()
        one_bytes = probe.get("/models/tiny").json()["memory_bytes"]
    budget = int(2.9 * max(one_bytes, 120 * 2**20))
    settings = {**store.settings, "MODEL_API_PIN_S": 3600, "MODEL_API_MEMORY_BUDGET_BYTES": budget}
    with server(store.folder / "b", **settings) as api:
        api.wait_until_ready()
        for version in (2, 3, 4, 5):
            store.publish(version)
            api.wait_for_model("tiny", version=str(version), state="serving")


def test_a_deleted_model_ends_on_all_also_after_a_restart(store: Store) -> None:
    store.publish(1)
    store.publish(2, name="kept")
    api = Server(store.folder / "a", store.settings)
    api.start()
    try:
        api.wait_until_ready()
        said = model_api("delete", "tiny", "--yes", "--wait", store.root)
        assert "no live instance has it any more" in said
        assert api.get("/models/tiny").status == 404
        assert api.post("/predict", {"model": "tiny", "inputs": "x"}).status == 404
        api.stop()
        api.start()
        api.wait_until_ready()
        assert [model["name"] for model in api.get("/models").json()["models"]] == ["kept"]
    finally:
        api.close()


SIM = {"target": "the cat", "texts": ["the dog"]}


def sim_model(api: Server) -> str | None:
    answer = api.post("/sim", SIM)
    return answer.headers["x-model"] if answer.status == 200 else None


def test_a_second_embedding_model_leaves_sim_alone(store: Store) -> None:
    """Seen: 422 for every caller."""
    store.publish(1, name="main")
    with server(store.folder / "a", **store.settings) as api:
        api.wait_until_ready()
        assert sim_model(api) == "main"
        store.publish(2, name="ape")
        api.wait_for_model("ape", version="1")
        assert sim_model(api) == "main"
        with server(store.folder / "b", **store.settings) as new:
            new.wait_until_ready()
            assert sim_model(new) == "main"
            model_api("promote", "ape", "--sim", store.root)
            for one in (api, new):
                wait_until(lambda one=one: sim_model(one) == "ape", what="the chosen model for /sim")  # type: ignore[misc]


def test_a_second_plain_copy_leaves_sim_alone_also_for_who_starts_later(store: Store) -> None:
    """Seen: `cp -r main main.bak`, and 422 for every caller. Nobody ran a command that could have chosen."""
    plain = store.author.layout.models / "main"
    shutil.copytree(tiny_model(store.folder / "e1", 1), plain)
    settings = {**store.settings, "MODEL_API_SETTLE_S": 0.5}
    with server(store.folder / "a", **settings) as api:
        api.wait_for_model("main", state="serving")
        assert sim_model(api) == "main"
        shutil.copytree(plain, plain.with_name("a-copy"))
        api.wait_for_model("a-copy", state="serving")
        assert sim_model(api) == "main"
        with server(store.folder / "b", **settings) as new:
            new.wait_for_model("a-copy", state="serving")
            new.wait_for_model("main", state="serving")
            wait_until(lambda: sim_model(new) == "main", what="the model that the others use")
