"""EFS that hangs, fails, vanishes or lies, against the real server: what is loaded answers as if nothing were."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from model_api.repository.statuses import read_statuses
from tests.rigs.author import Author
from tests.rigs.fuse_efs import FuseEfs, fuse_efs
from tests.rigs.models import tiny_model
from tests.rigs.polling import wait_until
from tests.rigs.server import Server, server
from tests.rigs.traffic import Traffic, latency_report, traffic

pytestmark = pytest.mark.integration


@dataclass
class World:
    """An author, the instance's mount, and the folder for its instance."""

    author: Author
    efs: FuseEfs
    folder: Path

    def publish(self, seed: int, name: str = "m") -> str:
        """Publish a new model of that seed; its version."""
        return self.author.publish(tiny_model(self.folder / f"{name}-{seed}", seed), name).version

    def settings(self) -> dict[str, object]:
        return {"MODEL_API_EFS_ROOT": self.efs.root, "MODEL_API_LANES": 1}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with fuse_efs(tmp_path) as efs:
        yield World(Author(efs.backing), efs, tmp_path)


@contextmanager
def traffic_of(api: Server) -> Iterator[Traffic]:
    """Callers of model m, from when it is ready."""
    api.wait_until_ready()
    with traffic(api, "m", callers=1) as callers:
        yield callers


def metric(api: Server, name: str) -> float:
    for line in api.get("/metrics").body.decode().splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def has_logged(api: Server, message: str) -> bool:
    return any(record["message"] == message for record in api.log_records())


@dataclass(frozen=True)
class Fault:
    """How it begins and ends, and a word by which /mount_check names it."""

    begin: Callable[[FuseEfs], None]
    end: Callable[[FuseEfs], None]
    named: str

    @contextmanager
    def present(self, efs: FuseEfs) -> Iterator[None]:
        self.begin(efs)
        try:
            yield
        finally:
            self.end(efs)


def remount(efs: FuseEfs) -> None:
    efs.unmount()
    efs.mount()


FAULTS = {
    "hang": Fault(FuseEfs.hang, FuseEfs.heal, "no answer"),
    "EIO": Fault(lambda efs: efs.fail("EIO"), FuseEfs.heal, "Input/output error"),
    "ESTALE": Fault(lambda efs: efs.fail("ESTALE"), FuseEfs.heal, "Stale file handle"),
    "unmounted": Fault(FuseEfs.unmount, FuseEfs.mount, ".model-store"),
    "server lost": Fault(FuseEfs.lose_server, remount, "not connected"),
    "EIO of models only": Fault(lambda efs: efs.fail("EIO", "/models*"), FuseEfs.heal, "Input/output error"),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Server]]:
    """One server for all faults: each must leave it as it found it."""
    folder = tmp_path_factory.mktemp("faults")
    with fuse_efs(folder) as efs:
        world = World(Author(efs.backing), efs, folder)
        world.publish(1)
        with server(folder / "instance", **world.settings()) as api:
            api.wait_until_ready()
            yield world, api


def expect_fault_shown(api: Server, fault: Fault) -> None:
    """Everywhere where an operator looks, and without a route that waits for EFS."""
    for path in ("/", "/docs", "/healthz", "/metrics", "/models", "/models/m", "/mount_check", "/readyz"):
        asked_at = time.monotonic()
        assert api.get(path).status == (503 if path == "/mount_check" else 200)
        assert time.monotonic() - asked_at < 3, path
    listed = api.get("/models").json()
    assert listed["mount"]["mounted"] is False
    assert fault.named in listed["mount"]["detail"]
    assert [(model["name"], model["state"]) for model in listed["models"]] == [("m", "serving")]
    assert metric(api, "model_api_mount_up") == 0
    assert metric(api, "model_api_mount_age_seconds") > 0
    assert has_logged(api, "the repository is unavailable")


@pytest.mark.parametrize("kind", FAULTS)
def test_loaded_models_answer_through_a_fault_and_it_recovers(running: tuple[World, Server], kind: str) -> None:
    world, api = running
    fault = FAULTS[kind]
    api.wait_for_status("/mount_check", 200)
    with traffic(api, "m") as callers:
        callers.wait_for(200)
        began_at = time.monotonic()
        with fault.present(world.efs):
            seen = api.wait_for_status("/mount_check", 503).json()
            assert fault.named in seen["detail"], seen
            assert seen["age_s"] > 0
            expect_fault_shown(api, fault)
            callers.wait_for(200)
            ended_at = time.monotonic()
        api.wait_for_status("/mount_check", 200)
        version = world.publish(seed=int(time.monotonic_ns() % 2**31))
        api.wait_for_model("m", version=version, state="serving")
        callers.wait_for(20)
    print(f"\n{kind}: before {latency_report(callers.between(0, began_at))}")
    print(f"{kind}: during {latency_report(callers.between(began_at, ended_at))}")
    assert callers.failures() == []
    assert callers.told[-1].version == version
    assert metric(api, "model_api_mount_up") == 1
    wait_until(lambda: has_logged(api, "the repository is available again"))


@pytest.mark.parametrize("kind", ["hang", "EIO", "unmounted"])
def test_a_restart_with_efs_away_serves_from_the_local_store(world: World, kind: str) -> None:
    world.publish(1)
    world.publish(2)
    with server(world.folder / "instance", **world.settings()) as api:
        api.wait_for_model("m", version="2", state="serving")
        before = api.post("/predict", {"model": "m", "inputs": "the cat"}).json()
    FAULTS[kind].begin(world.efs)
    with server(world.folder / "instance", **world.settings()) as api:
        assert api.wait_until_ready().json()["models"] == {"m": "serving"}
        assert api.post("/predict", {"model": "m", "inputs": "the cat"}).json() == before
        assert api.wait_for_status("/mount_check", 503).json()["age_s"] is None
        FAULTS[kind].end(world.efs)
        world.publish(3)
        api.wait_for_model("m", version="3", state="serving")


@pytest.mark.parametrize("kind", ["hang", "unmounted"])
def test_with_nothing_stored_and_efs_away_it_lives_unready_until_efs_is_there(world: World, kind: str) -> None:
    world.publish(1)
    FAULTS[kind].begin(world.efs)
    with server(world.folder / "instance", **world.settings()) as api:
        api.wait_for_status("/mount_check", 503)
        assert api.get("/healthz").status == 200
        assert api.get("/readyz").status == 503
        answer = api.post("/predict", {"model": "m", "inputs": "the cat"})
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        FAULTS[kind].end(world.efs)
        api.wait_until_ready()
        assert api.post("/predict", {"model": "m", "inputs": "the cat"}).status == 200


@pytest.mark.parametrize("error", ["EROFS", "EACCES", "hang"])
def test_it_follows_without_being_able_to_write_its_status(world: World, error: str) -> None:
    """Instances mount the models read-only, and the status folder may be away on its own."""
    world.publish(1)
    (world.efs.backing / "status").mkdir(exist_ok=True)
    if error == "hang":
        world.efs.hang("/status/*", "create")
    else:
        for operation in ("create", "mkdir", "write", "rename", "unlink", "chmod", "truncate", "link", "symlink"):
            world.efs.fail(error, "*", operation)
    with server(world.folder / "instance", **world.settings()) as api, traffic_of(api) as callers:
        version = world.publish(2)
        api.wait_for_model("m", version=version, state="serving")
        assert api.get("/mount_check").status == 200
        assert error != "hang" or world.efs.counts()["hanging"] == 1
        callers.wait_for(20)
    assert callers.failures() == []


def test_it_stops_in_order_while_efs_hangs(world: World) -> None:
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api:
        api.wait_until_ready()
        world.efs.hang()
        wait_until(lambda: world.efs.counts()["hanging"] >= 1)
        began_at = time.monotonic()
        api.stop()
        print(f"stopped after {time.monotonic() - began_at:.1f} s")


def test_a_killed_server_leaves_no_model_process(world: World) -> None:
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api:
        api.wait_until_ready()
        assert len(api.pids_by_role()["lane"]) == 1
        api.kill()


def test_names_believed_a_minute_delay_a_version_and_never_break_one(world: World) -> None:
    """refs.json may be seen before the folder that it names, and after the file that it was is deleted."""
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api, traffic_of(api) as callers:
        world.efs.stale(60, "/models/m/versions/2*")
        assert not (world.efs.root / "models/m/versions/2").exists()
        assert not (world.efs.root / "models/m/versions/2/manifest.json").exists()
        world.publish(2)
        refused = wait_until(lambda: api.get("/models/m").json()["refused"])
        assert refused[0]["version"] == "2"
        assert api.get("/models/m").json()["version"] == "1"
        world.efs.stale(0)
        assert api.wait_for_model("m", version="2", state="serving")["refused"] == []
        world.efs.stale(60, "/models/m/refs.json")
        assert (world.efs.root / "models/m/refs.json").exists()  # the name is believed now
        world.publish(3)
        wait_until(lambda: api.get("/mount_check").status == 503 or api.get("/models/m").json()["refused"])
        assert api.get("/models/m").json()["version"] == "2"
        world.efs.stale(0)
        assert api.wait_for_model("m", version="3", state="serving")["refused"] == []
        callers.wait_for(20)
    assert callers.failures() == []


@pytest.mark.parametrize("damage", ["truncated", "overwritten in place"])
def test_weights_that_change_while_they_are_copied_are_never_served(world: World, damage: str) -> None:
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api, traffic_of(api) as callers:
        size_bytes = world.author.weights("m", "1").stat().st_size
        world.efs.behave(bytes_per_s=size_bytes / 2)  # two seconds for the copy
        world.efs.hang("*/versions/2/model.safetensors", "read")
        world.publish(2)
        wait_until(lambda: world.efs.counts()["hanging"] >= 1)
        weights = world.author.weights("m", "2")
        if damage == "truncated":
            with weights.open("r+b") as file:
                file.truncate(size_bytes // 2)
        else:
            with weights.open("r+b") as file:
                file.seek(size_bytes // 2)
                file.write(b"\x01" * 1000)
        world.efs.heal()
        refused = wait_until(lambda: api.get("/models/m").json()["refused"], within_s=20)
        assert refused[0]["version"] == "2"
        assert "model.safetensors" in refused[0]["reason"]
        assert api.get("/models/m").json()["version"] == "1"
        world.efs.behave()
        world.publish(3)
        api.wait_for_model("m", version="3", state="serving")
        callers.wait_for(20)
    assert callers.failures() == []
    assert {one.version for one in callers.told} == {"1", "3"}


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "ENOENT"])
def test_a_read_that_fails_in_mid_copy_is_tried_again(world: World, error: str) -> None:
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api, traffic_of(api) as callers:
        world.efs.fail(error, "*/versions/2/model.safetensors")
        world.publish(2)
        refused = wait_until(lambda: api.get("/models/m").json()["refused"])
        assert refused[0]["version"] == "2"
        assert api.get("/models/m").json()["version"] == "1"
        world.efs.heal()
        assert api.wait_for_model("m", version="2", state="serving")["refused"] == []
    assert callers.failures() == []


def test_a_copy_that_hangs_gives_way_to_a_newer_version(world: World) -> None:
    world.publish(1)
    with server(world.folder / "instance", **world.settings()) as api, traffic_of(api) as callers:
        world.efs.hang("*/versions/2/model.safetensors", "read")
        world.publish(2)
        wait_until(lambda: world.efs.counts()["hanging"] >= 1)
        world.publish(3)
        api.wait_for_model("m", version="3", state="serving")
        world.efs.heal()
        assert world.author.rollback("m").version == "2"
        api.wait_for_model("m", version="2", state="serving")
    assert callers.failures() == []


@pytest.mark.parametrize("kind", ["EACCES", "hang"])
def test_one_folder_that_cannot_be_read_concerns_no_other(world: World, kind: str) -> None:
    """Even the only one: the file system is mounted, the instance gets ready, and what comes later is served."""
    world.publish(1, "a-broken")
    if kind == "hang":
        world.efs.hang("/models/a-broken/refs.json", "open")
    else:
        world.efs.fail(kind, "/models/a-broken/refs.json", "open")
    with server(world.folder / "instance", **world.settings()) as api:
        api.wait_until_ready()
        assert api.get("/mount_check").status == 200
        row = api.get("/models/a-broken").json()
        assert row["state"] == "refused"
        assert ("gives no answer" if kind == "hang" else "Permission denied") in row["refused"][0]["reason"]
        world.publish(2, "b-good")
        api.wait_for_model("b-good", version="1", state="serving")
        world.publish(3, "b-good")
        api.wait_for_model("b-good", version="2", state="serving")
        assert api.get("/mount_check").status == 200
        world.efs.heal()
        api.wait_for_model("a-broken", version="1", state="serving")


def test_an_instance_at_rest_writes_nothing(world: World) -> None:
    for name in ("one", "two", "three"):
        world.publish(1, name)
    settings = {**world.settings(), "MODEL_API_POLL_S": 0.5}  # listings and other turns are seldom beside its beats
    with server(world.folder / "instance", **settings) as api:
        api.wait_until_ready()
        statuses = world.author.layout.statuses

        def all_told() -> bool:
            told = read_statuses(statuses).get(api.instance)
            return told is not None and [model["state"] for model in told.models] == ["serving"] * 3

        wait_until(all_told)
        before = world.efs.counts()
        wait_until(lambda: world.efs.counts().get("utimens", 0) >= before.get("utimens", 0) + 3, within_s=20)
        after = world.efs.counts()
    writes = {kind: after.get(kind, 0) - before.get(kind, 0) for kind in ("write", "create", "rename")}
    assert writes == {"write": 0, "create": 0, "rename": 0}
