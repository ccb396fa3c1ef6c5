"""The environment: instances behind a balancer, and Beanstalk's ways of putting a version on them.

Times are Beanstalk's, scaled: health checks every 0.5 s instead of 5 s, draining 2 s instead of 45 s.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.rehearsal.balancer import Balancer
from scripts.rehearsal.machine import BASE_PYTHON, HERE, IMAGE_AT, Machine
from scripts.rehearsal.network import Network
from scripts.rehearsal.skeleton import write_skeleton

CHECK_INTERVAL_S = 0.5
THRESHOLD = 2
ENVIRONMENT = "aws:elasticbeanstalk:application:environment"
DRAIN_S = 2.0
READY_TIMEOUT_S = 180


@dataclass(frozen=True)
class Step:
    """One step of the engine on one instance."""

    step: str
    seconds: float
    output: str


class DeploymentFailed(Exception):
    """The engine aborted on an instance; `steps` end with the one that failed."""

    def __init__(self, instance: str, steps: list[Step]) -> None:
        failed = steps[-2] if len(steps) > 1 else Step("nothing", 0, "")
        super().__init__(f"{instance}: {failed.step} failed: {failed.output}")
        self.steps = steps


@dataclass
class Instance:
    """An instance, and what its last deployment did when: seconds since its launch."""

    machine: Machine
    launched: float
    steps: list[Step] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.machine.name

    @property
    def address(self) -> str:
        return self.machine.address


class Fleet:
    """An environment. `options`: its settings as eb sent them. `backing`: the file system's stand-in."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        backing: Path,
        options: Mapping[str, Mapping[str, str]],
        health_path: str | None,
    ) -> None:
        """Without a `health_path` it is a worker environment: no balancer, and a daemon on each instance instead."""
        self.folder = folder
        self.network = network
        self.backing = backing
        self.options: dict[str, dict[str, str]] = {name: dict(values) for name, values in options.items()}
        self.instances: list[Instance] = []
        self.bundle: Path | None = None
        self.launches = 0
        self.skeleton = folder / "skeleton"
        self.skeleton.mkdir(parents=True)
        write_skeleton(self.skeleton)
        self.image: Path | None = None
        self._balancer = None
        if health_path is not None:
            self._balancer = Balancer(
                folder / "balancer",
                network,
                path=health_path,
                interval_s=CHECK_INTERVAL_S,
                threshold=THRESHOLD,
                idle_s=int(self.options.get("aws:elbv2:loadbalancer", {}).get("IdleTimeout", "50")),
            )

    @property
    def balancer(self) -> Balancer:
        """Of a web environment."""
        assert self._balancer is not None
        return self._balancer

    # --- One instance ---------------------------------------------------------------------------------------------

    def launch(self) -> Instance:
        """A bare instance, in the target group from the start: its health checks alone keep traffic away."""
        self.launches += 1
        name = f"{'web' if self._balancer else 'worker'}-{self.launches}"
        launched = time.monotonic()
        machine = Machine(name, self.folder / name, self.network, [self.skeleton], self.backing, self.image)
        machine.boot()
        instance = Instance(machine, launched)
        if self._balancer:
            self._balancer.register(machine.address)
        self.instances.append(instance)
        return instance

    def deploy(self, instance: Instance, bundle: Path, kind: str = "app") -> list[Step]:
        """Run the engine. Raises DeploymentFailed; whatever served before goes on then."""
        options = {**self.options}
        shutil.copy(bundle, instance.machine.path("/opt/elasticbeanstalk/bundle.zip"))
        instance.machine.path("/opt/elasticbeanstalk/options.json").write_text(json.dumps(options))
        arguments = [kind, "/opt/elasticbeanstalk/bundle.zip", "/opt/elasticbeanstalk/options.json"]
        done = subprocess.run(
            instance.machine.command(*_engine(), *arguments),
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=900,
        )
        instance.steps = [Step(**json.loads(line)) for line in done.stdout.splitlines()]
        if done.returncode != 0:
            if done.stderr:
                instance.steps.insert(-1, Step("engine", 0, done.stderr))
            raise DeploymentFailed(instance.name, instance.steps)
        return instance.steps

    def terminate(self, instance: Instance, drain_s: float = DRAIN_S) -> None:
        """Scale-in: no new requests, time for those under way, then the power goes."""
        if self._balancer:
            self._balancer.deregister(instance.address, drain_s)
        instance.machine.power_off()
        self.instances.remove(instance)

    def wait_in_service(self, instance: Instance) -> None:
        """In a balancer's eyes; a worker's deployment has waited until it is ready."""
        if self._balancer is None:
            return
        if not self.balancer.wait_healthy(instance.address, READY_TIMEOUT_S):
            raise DeploymentFailed(
                instance.name, [*instance.steps, Step("health check", 0, ""), Step("aborted", 0, "")]
            )

    # --- The environment --------------------------------------------------------------------------------------------

    def create(self, bundle: Path, count: int) -> None:
        """The first deployment. The first instance installs everything; the others start from an image of that."""
        for _ in range(count):
            self.scale_out(bundle)
        self.bundle = bundle

    def scale_out(self, bundle: Path | None = None) -> Instance:
        """One more instance, with the environment's version on it; returns once it takes traffic."""
        bundle = bundle or self.bundle
        assert bundle is not None
        instance = self.launch()
        try:
            self.deploy(instance, bundle)
            self.wait_in_service(instance)
        except DeploymentFailed:
            self.terminate(instance, drain_s=0)
            raise
        if self.image is None:
            self.image = self._image_of(instance)
        return instance

    def roll(self, bundle: Path) -> None:
        """RollingWithAdditionalBatch, one at a time: first a new instance, then the old ones, out of traffic meanwhile.

        Raises DeploymentFailed at the first that fails; those not yet reached keep the old version.
        """
        old = list(self.instances)
        additional = self.scale_out(bundle)
        for instance in old:
            self.balancer.deregister(instance.address, DRAIN_S)
            try:
                self.deploy(instance, bundle)
            finally:
                self.balancer.register(instance.address)
            self.wait_in_service(instance)
        self.terminate(additional)
        self.bundle = bundle

    def close(self) -> None:
        if self._balancer:
            self._balancer.close()
        for instance in self.instances:
            instance.machine.power_off()

    def _image_of(self, instance: Instance) -> Path:
        """The virtual environment that pip made there, for the instances to come: a baked image.

        Hard links: installed files are replaced, never written to.
        """
        image = self.folder / "image"
        subprocess.run(["cp", "-al", str(instance.machine.upper / IMAGE_AT.lstrip("/")), str(image)], check=True)
        return image


def _engine() -> list[str]:
    return [str(BASE_PYTHON), str(HERE / "engine.py")]
