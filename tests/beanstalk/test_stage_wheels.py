"""From the lock to an instance: scripts/wheelhouse, .platform/bin/stage_wheels, and the plain pip that Beanstalk runs.

torch alone comes from the CPU index, or everything from a wheelhouse that is whole; pip checks the hash of every file.
"""

import configparser
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rigs.get_config import write_get_config
from tests.rigs.package_index import PackageIndex, pinned
from tests.rigs.project import ROOT

PLATFORM = f"py{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}"


class Instance:
    """The script with every path of an instance moved under `folder`, and properties of its own.

    Its registry has `toy` (a wheel) and `rough` (a source alone), which are locked, and a torch that nobody wants.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.properties: dict[str, str] = {}
        self.pip_conf = folder / "etc/pip.conf"
        self.wheels = folder / "var/cache/model_api/wheels"
        self.registry = PackageIndex(folder / "registry")
        self.registry.add_wheel("torch", "9.9.9", content="gigabytes of CUDA")
        self.cpu_index = PackageIndex(folder / "cpu_index")
        self.torch = self.cpu_index.add_wheel("torch", "9.9.9+cpu", content="CPU")
        self.properties["TORCH_INDEX_URL"] = self.cpu_index.url
        self.bundle = bundle = folder / "bundle"
        for path in (bundle / ".platform/bin", bundle / "scripts", folder / "etc", folder / "var/app/venv/one/bin"):
            path.mkdir(parents=True)
        # A virtual environment of its own, so that the torch of the tests isn't found installed.
        self.python = folder / "var/app/venv/one/bin/python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        self.python.chmod(0o755)
        self.requirements = bundle / "requirements.txt"
        self.unpack()
        for name in ("properties.sh", "stage_wheels"):
            text = (ROOT / ".platform/bin" / name).read_text()
            for absolute in ("/etc/pip.conf", "/var/cache/model_api", "/var/app/venv", "/opt/elasticbeanstalk"):
                text = text.replace(absolute, f"{folder}{absolute}")
            (bundle / ".platform/bin" / name).write_text(text)
        for name in ("pip", "wheelhouse"):
            shutil.copy(ROOT / "scripts" / name, bundle / "scripts")

    def unpack(self) -> None:
        """The bundle's own requirements, as each deployment begins with."""
        toy, rough = self.registry.add_wheel("toy", "1.0"), self.registry.add_source("rough", "2.0")
        self.requirements.write_text(f"{pinned('toy', '1.0', toy)}\n{pinned('rough', '2.0', rough)}\n")
        (self.bundle / "requirements-torch.txt").write_text("# no hash\ntorch==9.9.9\n")
        self.registry.add_wheel("cloud", "3.0", requires="toy")
        self.registry.add_wheel("toy", "2.0", content="newer than the lock")
        (self.bundle / "requirements-fleet.txt").write_text("cloud==3.0\n")
        self.registry.add_wheel("driver", "4.0", requires="toy")
        (self.bundle / "requirements-database.txt").write_text("driver==4.0\n")
        (self.bundle / "requirements.lock").unlink(missing_ok=True)

    @property
    def key(self) -> str:
        names = ("requirements.txt", *(f"requirements-{name}.txt" for name in ("torch", "fleet", "database")))
        lock = b"".join((self.bundle / name).read_bytes() for name in names)
        return f"{PLATFORM}-{hashlib.sha256(lock).hexdigest()[:16]}"

    def run(self) -> subprocess.CompletedProcess[str]:
        write_get_config(self.folder / "opt/elasticbeanstalk/bin/get-config", self.properties)
        script = ["bash", str(self.bundle / ".platform/bin/stage_wheels")]
        return subprocess.run(script, capture_output=True, text=True, timeout=60)

    def pip_install(self, registry: str, file: str = "requirements.txt") -> subprocess.CompletedProcess[str]:
        """What Beanstalk runs then, with nothing but the configuration that was written for it."""
        site = self.folder / "site"
        command = [sys.executable, "-m", "pip", "install", "-r", str(self.bundle / file), "--target", str(site)]
        # As settings of the environment: with a configuration file pip would read the host's files too.
        written = configparser.ConfigParser()
        written.read(self.pip_conf)
        settings = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in written["global"].items()}
        environment = {**os.environ, **settings, "PIP_INDEX_URL": registry}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def installed(self) -> dict[str, str]:
        """Name and content of each package."""
        files = sorted((self.folder / "site").glob("*.py"))
        return {file.stem: file.read_text().split("CONTENT = ")[1].strip().strip("'") for file in files}

    def fill_wheelhouse(self, place: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "WHEELHOUSE_PYTHON": sys.executable, "PIP_INDEX_URL": self.registry.url}
        command = ["bash", str(self.bundle / "scripts/wheelhouse"), str(place)]
        # The torch of a made-up index that curl can't ask: the configured one has it, as on a machine with a mirror.
        environment |= {"TORCH_INDEX_URL": "file:///nonexistent", "PIP_FIND_LINKS": str(self.torch.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def wheelhouse(folder: Path, key: str, content: bytes = b"wheel") -> None:
    (folder / key).mkdir(parents=True)
    (folder / key / "flask.whl").write_bytes(content)
    (folder / key / "requirements.txt").write_text("flask\n")
    sums = {"flask.whl": b"wheel", "requirements.txt": b"flask\n"}
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sums.items()]
    (folder / key / "SHA256SUMS").write_text("".join(lines))


def test_torch_alone_comes_from_the_cpu_index(instance: Instance) -> None:
    done = instance.run()
    assert done.returncode == 0, done.stderr
    staged = instance.wheels / f"torch-{PLATFORM}"
    assert [path.name for path in staged.iterdir()] == ["torch-9.9.9+cpu-py3-none-any.whl"]
    settings = instance.pip_conf.read_text()
    assert f"find-links = {staged}" in settings
    assert "index" not in settings
    installing = instance.pip_install(instance.registry.url)
    assert installing.returncode == 0, installing.stderr
    assert instance.installed() == {"rough": "built", "torch": "CPU", "toy": ""}


def test_pip_takes_no_torch_but_the_staged_one(instance: Instance) -> None:
    assert instance.run().returncode == 0
    shutil.rmtree(instance.wheels)
    installing = instance.pip_install(instance.registry.url)
    assert installing.returncode != 0
    assert "DO NOT MATCH THE HASHES" in installing.stderr


def test_a_package_that_was_changed_in_the_registry_is_refused(instance: Instance) -> None:
    assert instance.run().returncode == 0
    instance.registry.add_wheel("toy", "1.0", content="changed")
    installing = instance.pip_install(instance.registry.url)
    assert installing.returncode != 0
    assert "DO NOT MATCH THE HASHES" in installing.stderr


def test_a_cpu_index_that_is_away_fails_the_deployment(instance: Instance) -> None:
    instance.properties["TORCH_INDEX_URL"] = (instance.folder / "nowhere").as_uri()
    done = instance.run()
    assert done.returncode == 1
    assert "scripts/wheelhouse" in done.stderr


@pytest.mark.parametrize("unpacked_anew", [True, False])
def test_a_second_deployment_asks_no_index(instance: Instance, unpacked_anew: bool) -> None:
    assert instance.run().returncode == 0
    written = instance.requirements.read_text()
    if unpacked_anew:
        instance.unpack()
    instance.properties["TORCH_INDEX_URL"] = (instance.folder / "nowhere").as_uri()
    done = instance.run()
    assert (done.returncode, done.stdout) == (0, "stage_wheels: torch==9.9.9 is staged already\n")
    assert instance.requirements.read_text() == written


def test_a_wheelhouse_holds_all_that_an_instance_installs(instance: Instance) -> None:
    house = instance.folder / "efs/wheelhouse"
    filled = instance.fill_wheelhouse(house)
    assert filled.returncode == 0, filled.stderr
    assert f"5 wheels in {house}/{instance.key}" in filled.stdout
    instance.properties |= {"WHEELHOUSE": str(house), "TORCH_INDEX_URL": "file:///nowhere"}
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert "no-index = true" in instance.pip_conf.read_text()
    installing = instance.pip_install("file:///nowhere")
    assert installing.returncode == 0, installing.stderr
    assert instance.installed() == {"rough": "built", "torch": "CPU", "toy": ""}
    installing = instance.pip_install("file:///nowhere", "requirements-fleet.txt")
    assert installing.returncode == 0, installing.stderr
    assert instance.installed() == {"cloud": "", "rough": "built", "torch": "CPU", "toy": ""}
    installing = instance.pip_install("file:///nowhere", "requirements-database.txt")
    assert installing.returncode == 0, installing.stderr
    assert instance.installed() == {"cloud": "", "driver": "", "rough": "built", "torch": "CPU", "toy": ""}


def test_a_wheelhouse_is_not_filled_with_what_isnt_locked(instance: Instance) -> None:
    instance.registry.add_wheel("toy", "1.0", content="changed")
    filled = instance.fill_wheelhouse(instance.folder / "house")
    assert filled.returncode != 0
    assert "DO NOT MATCH THE HASHES" in filled.stderr
    assert not (instance.folder / "house").exists()


def test_a_wheelhouse_is_not_filled_with_a_torch_that_needs_cuda(instance: Instance) -> None:
    instance.torch = instance.cpu_index.add_wheel("torch", "9.9.9+cpu", requires="nvidia-cublas==1")
    filled = instance.fill_wheelhouse(instance.folder / "house")
    assert filled.returncode == 1
    assert "only to be had as a CUDA build here; set TORCH_INDEX_URL" in filled.stderr
    assert not (instance.folder / "house").exists()


@pytest.mark.parametrize("damage", ["content", "list", "sums", "key"])
def test_a_wheelhouse_that_is_not_whole_is_left_alone(instance: Instance, damage: str) -> None:
    house = instance.folder / "efs/wheelhouse"
    key = "py27-vax-0" if damage == "key" else instance.key
    wheelhouse(house, key, b"damaged" if damage == "content" else b"wheel")
    if damage in ("sums", "list"):
        (house / key / {"sums": "SHA256SUMS", "list": "requirements.txt"}[damage]).unlink()
    instance.properties["WHEELHOUSE"] = str(house)
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert "WARNING: no complete wheelhouse" in done.stdout
    assert "no-index" not in instance.pip_conf.read_text()
    assert "torch==9.9.9 --hash=" in instance.requirements.read_text()
