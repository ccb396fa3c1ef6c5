"""Instances on a real NFS 4.1 client each, and an author on a third: they converge, and outlive their file server.

Never a place to measure time in: system calls are slow there.
"""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rigs.api import Api
from tests.rigs.models import tiny_model
from tests.rigs.nfs_machine import Machine, NfsSite, Running, nfs_site
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT
from tests.rigs.traffic import latency_report, traffic

pytestmark = pytest.mark.integration

PORT = 8000
FROZEN_S = 60.0


class Instance(Api):
    """The real server in a machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self.machine = machine
        self._log = f"/tmp/{name}.log"
        settings = {
            "MODEL_API_EFS_ROOT": str(machine.efs),
            "MODEL_API_LOCAL_STORE": "/var/tmp/store",
            "MODEL_API_INSTANCE": name,
            "MODEL_API_BIND": "0.0.0.0",
            "MODEL_API_POLL_S": "0.5",
            "MODEL_API_SETTLE_S": "3",
            "MODEL_API_LANES": "1",
            "PORT": str(PORT),
        }
        command = f"exec {sys.executable} -m gunicorn --config gunicorn.conf.py > {self._log} 2>&1"
        self._running: Running = machine.start(["bash", "-c", command], environment=settings, folder=ROOT)

    def _dial(self) -> socket.socket:
        return self.machine.dial(PORT)

    def expect_running(self) -> None:
        alive = self.machine.run(["kill", "-0", str(self._running.pid)]).returncode == 0
        assert alive, f"the server ended:\n{self.log_tail()}"

    def log_tail(self) -> str:
        return self.machine.run(["tail", "-n", "40", self._log]).stdout

    def close(self) -> None:
        self._running.close()


class RemoteAuthor:
    """Author's methods, called on another machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def does(self, action: str) -> str:
        """E.g. does("publish(Path('/folder'), 'm').version"); what that gives."""
        program = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.rigs.author import Author
author = Author(Path({str(self._machine.efs)!r}))
print(author.{action})
"""
        done = self._machine.run([sys.executable, "-c", program], timeout_s=60)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def publish(self, folder: Path, name: str = "m") -> str:
        return self.does(f"publish(Path({str(folder)!r}), {name!r}).version")


@dataclass
class Site:
    nfs: NfsSite
    author: RemoteAuthor
    author_machine: Machine
    instances: list[Instance]
    folder: Path

    def converges(self, version: str, within_s: float = 60.0) -> None:
        """Every instance serves `version`, with the same digest and the same vector."""
        told = []
        for instance in self.instances:
            instance.wait_for_model("m", within_s, version=version, state="serving")
            told.append(instance.post("/predict", {"model": "m", "inputs": "the cat"}).json())
        assert told[0] == told[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three machines; version 1 is served by two of them."""
    folder = tmp_path_factory.mktemp("site")
    with nfs_site(folder, machines=3, memory_mb=1536) as nfs:
        author = RemoteAuthor(nfs.machines[0])
        author.publish(tiny_model(folder / "model-1", 1))
        instances = [Instance(machine, f"instance-{n}") for n, machine in enumerate(nfs.machines[1:])]
        for instance in instances:
            instance.wait_until_ready(within_s=120)
        yield Site(nfs, author, nfs.machines[0], instances, folder)
        for instance in instances:
            instance.close()


def test_both_instances_converge_on_what_a_third_machine_publishes(site: Site) -> None:
    second = site.author.publish(tiny_model(site.folder / "model-2", 2))
    began_at = time.monotonic()
    site.converges(second)
    print(f"converged {time.monotonic() - began_at:.1f} s after the publish had ended")
    site.converges(site.author.does("rollback('m').version"))
    site.converges(site.author.does(f"promote('m', {second!r}).version"))


def test_a_server_frozen_a_minute_is_a_minute_of_answers(site: Site) -> None:
    watched = site.instances[0]
    before = watched.get("/models/m").json()["version"]
    with traffic(watched, "m", callers=1, pause_s=0.1) as callers:
        callers.wait_for(20)
        began_at = time.monotonic()
        thaw = threading.Timer(FROZEN_S, site.nfs.thaw)
        site.nfs.freeze()
        thaw.start()
        for instance in site.instances:
            instance.wait_for_status("/mount_check", 503)
            assert instance.get("/healthz").status == instance.get("/readyz").status == 200
            assert instance.get("/models").json()["mount"]["mounted"] is False
        thaw.join()
        ended_at = time.monotonic()
        for instance in site.instances:
            instance.wait_for_status("/mount_check", 200, within_s=120)
        print(f"\nseen again {time.monotonic() - ended_at:.1f} s after it was back")
        callers.wait_for(20)
    print(f"before {latency_report(callers.between(0, began_at))}")
    print(f"frozen {latency_report(callers.between(began_at, ended_at))}")
    assert callers.failures() == []
    assert {one.version for one in callers.told} == {before}
    site.converges(site.author.publish(tiny_model(site.folder / "model-3", 3)))


def test_an_instance_cut_off_serves_what_it_has_and_catches_up(site: Site) -> None:
    cut_off, other = site.instances
    before = cut_off.get("/models/m").json()["version"]
    site.nfs.cut_off(cut_off.machine)
    try:
        version = site.author.publish(tiny_model(site.folder / "model-4", 4))
        other.wait_for_model("m", version=version, state="serving")
        cut_off.wait_for_status("/mount_check", 503)
        assert cut_off.post("/predict", {"model": "m", "inputs": "the cat"}).json()["version"] == before
        assert cut_off.get("/readyz").status == 200
    finally:
        site.nfs.reconnect(cut_off.machine)
    site.converges(version, within_s=120)


def test_a_plain_copy_overwritten_in_place_is_taken_only_when_sealed(site: Site) -> None:
    """cp writes in place, as scp does. Half of it, with sizes unchanged, is a mixture that only the digest tells."""
    first, second = (tiny_model(site.folder / f"plain-{seed}", seed) for seed in (5, 6))
    size_bytes = (second / "model.safetensors").stat().st_size
    target = site.author_machine.efs / "models/plain"

    def author(script: str) -> None:
        done = site.author_machine.run(["bash", "-ec", script])
        assert done.returncode == 0, done.stdout

    author(f"mkdir {target}; cp {first}/* {target}")
    told = []
    for instance in site.instances:
        instance.wait_for_model("plain", state="serving")
        told.append(instance.post("/predict", {"model": "plain", "inputs": "the cat"}).json())
    assert told[0] == told[1]
    half = f"bs={size_bytes // 2} count=1 conv=notrunc,fsync"
    author(f"dd if={second}/model.safetensors of={target}/model.safetensors {half}")
    for instance in site.instances:
        wait_until(
            lambda i=instance: any("seal" in row["reason"] for row in i.get("/models/plain").json()["refused"]),  # type: ignore[misc]
            within_s=30,
        )
        assert instance.post("/predict", {"model": "plain", "inputs": "the cat"}).json() == told[0]
    author(f"cp {second}/* {target}")
    assert int(site.author.does("seal('plain')")) > 0
    for instance in site.instances:
        wait_until(
            lambda i=instance: i.get("/models/plain").json()["digest"] != told[0]["digest"],  # type: ignore[misc]
            within_s=30,
        )
        assert instance.get("/models/plain").json()["refused"] == []
