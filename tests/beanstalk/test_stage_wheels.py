""".platform/bin/stage_wheels: torch alone from the CPU index, or everything from a wheelhouse that is whole."""

import hashlib
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.rigs.project import ROOT

KEY_START = f"py{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}-"


class Instance:
    """The script with every path of an instance moved under `folder`, and properties of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.properties: dict[str, str] = {}
        self.pip_conf = folder / "etc/pip.conf"
        self.wheels = folder / "var/cache/model_api/wheels"
        bundle = folder / "bundle"
        for path in (bundle / ".platform/bin", folder / "etc", folder / "var/app/venv/one/bin"):
            path.mkdir(parents=True)
        # A virtual environment of its own, so that the torch of the tests isn't found installed.
        (folder / "var/app/venv/one/bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / "var/app/venv/one/bin/python").chmod(0o755)
        self.requirements = bundle / "requirements.txt"
        self.requirements.write_text("flask==3.1.3\ntorch==9.9.9\n")
        self.script = bundle / ".platform/bin/stage_wheels"
        for name in ("properties.sh", "stage_wheels"):
            text = (ROOT / ".platform/bin" / name).read_text()
            for absolute in ("/etc/pip.conf", "/var/cache/model_api", "/var/app/venv", "/opt/elasticbeanstalk"):
                text = text.replace(absolute, f"{folder}{absolute}")
            (bundle / ".platform/bin" / name).write_text(text)

    @property
    def key(self) -> str:
        return KEY_START + hashlib.sha256(self.requirements.read_bytes()).hexdigest()[:16]

    def run(self) -> subprocess.CompletedProcess[str]:
        get_config = self.folder / "opt/elasticbeanstalk/bin/get-config"
        get_config.parent.mkdir(parents=True, exist_ok=True)
        cases = "\n".join(f"{name}) echo '{value}' ;;" for name, value in self.properties.items())
        get_config.write_text(f'#!/bin/sh\ncase "$3" in\n{cases}\n*) exit 1 ;;\nesac\n')
        get_config.chmod(0o755)
        return subprocess.run(["bash", str(self.script)], capture_output=True, text=True, timeout=60)


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    instance = Instance(tmp_path)
    instance.properties["TORCH_INDEX_URL"] = torch_index(tmp_path / "index").as_uri()
    return instance


def torch_index(folder: Path) -> Path:
    """A package index that has nothing but torch 9.9.9+cpu, an empty package."""
    wheel = "torch-9.9.9+cpu-py3-none-any.whl"
    (folder / "torch").mkdir(parents=True)
    with zipfile.ZipFile(folder / "torch" / wheel, "w") as archive:
        info = "torch-9.9.9+cpu.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9+cpu\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (folder / "torch" / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>')
    return folder


def wheelhouse(folder: Path, key: str, content: bytes = b"wheel") -> None:
    (folder / key).mkdir(parents=True)
    (folder / key / "flask.whl").write_bytes(content)
    (folder / key / "SHA256SUMS").write_text(f"{hashlib.sha256(b'wheel').hexdigest()}  flask.whl\n")


def test_torch_alone_comes_from_the_cpu_index(instance: Instance) -> None:
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert [path.name for path in instance.wheels.iterdir()] == ["torch-9.9.9+cpu-py3-none-any.whl"]
    settings = instance.pip_conf.read_text()
    assert f"find-links = {instance.wheels}" in settings
    assert "index" not in settings


def test_a_cpu_index_that_is_away_fails_the_deployment(instance: Instance) -> None:
    instance.properties["TORCH_INDEX_URL"] = (instance.folder / "nowhere").as_uri()
    done = instance.run()
    assert done.returncode == 1
    assert "scripts/wheelhouse" in done.stderr


def test_a_second_deployment_asks_no_index(instance: Instance) -> None:
    assert instance.run().returncode == 0
    instance.properties["TORCH_INDEX_URL"] = (instance.folder / "nowhere").as_uri()
    done = instance.run()
    assert (done.returncode, done.stdout) == (0, "stage_wheels: torch==9.9.9 is staged already\n")


def test_a_whole_wheelhouse_needs_no_index_at_all(instance: Instance) -> None:
    house = instance.folder / "efs/wheelhouse"
    wheelhouse(house, instance.key)
    instance.properties |= {"WHEELHOUSE": str(house), "TORCH_INDEX_URL": "file:///nowhere"}
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert "no-index = true" in instance.pip_conf.read_text()
    assert (instance.wheels / instance.key / "flask.whl").read_bytes() == b"wheel"


@pytest.mark.parametrize("damage", ["content", "sums", "key"])
def test_a_wheelhouse_that_is_not_whole_is_left_alone(instance: Instance, damage: str) -> None:
    house = instance.folder / "efs/wheelhouse"
    key = "py27-vax-0" if damage == "key" else instance.key
    wheelhouse(house, key, b"damaged" if damage == "content" else b"wheel")
    if damage == "sums":
        (house / key / "SHA256SUMS").unlink()
    instance.properties["WHEELHOUSE"] = str(house)
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert "WARNING: no complete wheelhouse" in done.stdout
    assert "no-index" not in instance.pip_conf.read_text()
