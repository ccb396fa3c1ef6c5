""".platform/bin/install_native: the int8 kernels of the bundle, into Beanstalk's virtual environment."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.native.compiling import backend
from tests.rigs.project import ROOT

pytestmark = pytest.mark.integration


class Instance:
    """The hook in a bundle under `folder`, which stands for the root of the file system."""

    def __init__(self, folder: Path) -> None:
        self.bundle = folder / "bundle"
        self.dist = self.bundle / "native/dist"
        (self.bundle / ".platform/bin").mkdir(parents=True)
        self.dist.mkdir(parents=True)
        for name in ("properties.sh", "install_native"):
            text = (ROOT / ".platform/bin" / name).read_text().replace("/var/app/venv", f"{folder}/var/app/venv")
            (self.bundle / ".platform/bin" / name).write_text(text)
        self.venv = folder / "var/app/venv/one"

    def make_environment(self) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(self.venv)], check=True, timeout=120)

    def add_wheel(self, content: str, processor: str = platform.machine()) -> None:
        files = {"int8_encoder/__init__.py": f"CONTENT = {content!r}\n".encode()}
        backend()._write_wheel(self.dist, files, f"py3-none-linux_{processor}")

    def run(self) -> subprocess.CompletedProcess[str]:
        script = ["bash", str(self.bundle / ".platform/bin/install_native")]
        return subprocess.run(script, capture_output=True, text=True, timeout=120)

    def installed(self) -> str:
        code = "import int8_encoder; print(int8_encoder.CONTENT)"
        done = subprocess.run([str(self.venv / "bin/python"), "-c", code], capture_output=True, text=True, timeout=60)
        return done.stdout.strip()


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_the_bundles_kernels_replace_those_of_an_earlier_deployment(instance: Instance) -> None:
    instance.make_environment()
    for content in ("first", "second"):  # of the same version number
        instance.add_wheel(content)
        done = instance.run()
        assert done.returncode == 0, done.stderr
        assert "installed int8_encoder-" in done.stdout
        assert instance.installed() == content


def test_a_bundle_without_kernels_for_this_processor_is_deployed_without(instance: Instance) -> None:
    instance.make_environment()
    instance.add_wheel("first")
    assert instance.run().returncode == 0
    for wheel in instance.dist.iterdir():
        wheel.unlink()
    instance.add_wheel("for another", processor="riscv64")
    done = instance.run()
    assert done.returncode == 0, done.stderr
    assert "WARNING: no int8 kernels" in done.stdout
    assert instance.installed() == ""


def test_a_damaged_wheel_is_a_warning(instance: Instance) -> None:
    instance.make_environment()
    (instance.dist / f"int8_encoder-0.1.0-py3-none-linux_{platform.machine()}.whl").write_bytes(b"no archive")
    done = instance.run()
    assert done.returncode == 0
    assert "can't be installed" in done.stdout


def test_no_environment_is_an_error(instance: Instance) -> None:
    done = instance.run()
    assert done.returncode == 1
    assert "no virtual environment" in done.stderr
