"""The kernels, compiled by the tests in ways that aren't shipped: with sanitizers, for another processor."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from tests.rigs.project import ROOT

NATIVE = ROOT / "native"


def backend() -> ModuleType:
    """native/build_backend.py, which pip runs by itself and nothing imports."""
    name = "int8_build_backend"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, NATIVE / "build_backend.py")
        assert specification is not None
        assert specification.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return sys.modules[name]


def fuzz_program(folder: Path, target: str, compiler: str, optimise: str, flags: tuple[str, ...] = ()) -> Path:
    """native/fuzz.cpp and the library it calls, compiled into `folder`; warnings are errors."""
    backend().compile_library(folder, target, flags=(*flags, "-Werror"), optimise=(optimise,))
    program = folder / "fuzz"
    command = [compiler, "-std=c++17", optimise, "-Wall", "-Wextra", "-Werror", *flags, str(NATIVE / "fuzz.cpp")]
    command += [str(folder / "libint8_encoder.so"), f"-Wl,-rpath,{folder}", "-o", str(program)]
    subprocess.run(command, check=True, timeout=600)
    return program
