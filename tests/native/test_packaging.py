"""What the wheel needs and holds."""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import int8_encoder
import pytest

from tests.native.compiling import NATIVE, backend
from tests.needs import needs
from tests.rigs.project import ROOT

NEWEST_C_LIBRARY = (2, 34)  # Amazon Linux 2023


@pytest.fixture(scope="module")
def library() -> Path:
    return Path(int8_encoder.__file__).with_name("libint8_encoder.so")


def test_scripts_setup_built_the_library_from_these_sources(library: Path) -> None:
    needs(str(library))
    for source in (NATIVE / "int8_encoder").glob("*.py"):
        assert library.with_name(source.name).read_bytes() == source.read_bytes(), "run scripts/setup"
    assert "portable" in int8_encoder.variants()


def test_it_needs_the_c_library_alone_and_no_newer_one_than_instances_have(library: Path) -> None:
    needs("readelf")
    said = subprocess.run(["readelf", "-d", "-V", str(library)], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"\(NEEDED\).*\[(.*)\]", said)) <= {"libc.so.6", "libm.so.6"}
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([\d.]+)", said)}
    assert versions
    assert max(versions) <= NEWEST_C_LIBRARY


@pytest.mark.integration
def test_no_function_is_shared_by_objects_for_different_instruction_sets(tmp_path: Path) -> None:
    """Of a function that several objects define, the linker keeps one: perhaps with instructions not every processor
    has. Without optimisation nothing is inlined but what must be."""
    needs("g++")
    needs("nm")
    backend().compile_library(tmp_path, platform.machine(), optimise=("-O0",))
    for variant in backend().VARIANTS[platform.machine()]:
        said = subprocess.run(["nm", "-C", str(tmp_path / f"{variant}.o")], capture_output=True, text=True, check=True)
        names = re.findall(r"^[0-9a-f]+ [VWu] (.*)$", said.stdout, re.MULTILINE)
        assert [name for name in names if f"{variant}::" not in name] == []


def test_without_a_compiler_the_build_says_so_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(backend().BuildFailed, match="no compiler no-such-compiler"):
        backend().build_wheel(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_pip_installs_the_wheel_without_a_registry_and_for_this_processor_alone(tmp_path: Path) -> None:
    name = backend()._write_wheel(tmp_path, {"int8_encoder/__init__.py": b"X = 1\n"}, "py3-none-linux_x86_64")
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert wheel.testzip() is None
        assert "int8_encoder/__init__.py,sha256=" in wheel.read("int8_encoder-0.1.0.dist-info/RECORD").decode()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--isolated", "install", "--no-index"]
    target = ["--target", str(tmp_path / "site"), "--find-links", str(tmp_path), "--no-deps", "int8-encoder"]
    only = ["--only-binary=:all:", "--platform"]
    subprocess.run([*pip, *target, *only, "linux_x86_64"], check=True, timeout=120)
    assert (tmp_path / "site/int8_encoder/__init__.py").read_text() == "X = 1\n"
    other = subprocess.run([*pip, *target, *only, "linux_aarch64"], capture_output=True, text=True, timeout=120)
    assert other.returncode != 0
    assert "No matching distribution" in other.stderr


def test_scripts_native_without_a_compiler_says_what_is_missing_and_fails_nothing(tmp_path: Path) -> None:
    for name in ("scripts/native", "native/build_backend.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    stale = tmp_path / "native/dist" / f"int8_encoder-0.1.0-py3-none-linux_{platform.machine()}.whl"
    stale.parent.mkdir()
    stale.write_text("of an earlier build")
    environment = {**os.environ, "CXX": "no-such-compiler -O2"}
    done = subprocess.run(
        [str(tmp_path / "scripts/native")], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "no no-such-compiler -O2 here; precision int8 will not be served in int8" in done.stderr
    assert not stale.exists()
