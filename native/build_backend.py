"""Builds the wheel: compiles src/ with g++ if there is one, and packs the library beside int8_encoder/.

A PEP 517 backend of its own rather than setuptools, because an instance builds without a package registry (nothing may
be needed for the build), each variant of the kernels needs compiler flags of its own, and the library belongs to no one
version of Python (ctypes calls it), so one wheel per processor serves all. Standard library only.

$CXX names another compiler, $INT8_ENCODER_TARGET (x86_64, aarch64) what it compiles for. Also a program:
python build_backend.py FOLDER writes the wheel there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME, VERSION = "int8_encoder", "0.1.0"
LIBRARY = "libint8_encoder.so"

# No exceptions and no run-time types, hence no C++ library (--as-needed leaves it out): a C library is all it needs.
# -ffp-contract=off: a product and a sum become one operation only where the source says so, or the same row could be
# rounded in two ways by two instances of one template. The two warnings that are off come from g++ 12's own header.
COMPILE = ("-std=c++17", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
           "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Wno-maybe-uninitialized",
           "-Wno-uninitialized")  # fmt: skip
OPTIMISE = ("-O3",)
LINK = ("-shared", "-Wl,--as-needed", "-Wl,--no-undefined", "-Wl,-z,noexecstack", "-s")
SHARED_SOURCES = ("api.cpp", "dispatch.cpp", "model.cpp", "pack.cpp")

_AVX2 = ("-mavx2", "-mfma", "-mf16c")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
VARIANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "x86_64": {
        "portable": (),
        "avx2": ("-DINT8_AVX2=1", *_AVX2),
        "avx2_vnni": ("-DINT8_AVX2=1", "-DINT8_VNNI=1", *_AVX2),
        "avx512": ("-DINT8_AVX512=1", *_AVX512),
        "avx512_vnni": ("-DINT8_AVX512=1", "-DINT8_VNNI=1", "-mavx512vnni", *_AVX512),
        "avx512_bf16": ("-DINT8_AVX512=1", "-DINT8_VNNI=1", "-DINT8_BF16=1", "-mavx512vnni", "-mavx512bf16", *_AVX512),
    },
    "aarch64": {
        "portable": (),
        "neon_dotprod": ("-DINT8_NEON=1", "-march=armv8.2-a+dotprod+fp16"),
        "neon_i8mm": ("-DINT8_NEON=1", "-DINT8_I8MM=1", "-march=armv8.2-a+dotprod+fp16+i8mm"),
    },
}


class BuildFailed(Exception):
    """No compiler, or it refused."""


def compile_library(
    folder: Path, target: str, *, flags: tuple[str, ...] = (), optimise: tuple[str, ...] = OPTIMISE
) -> Path:
    """The library for `target`, made in `folder`, which must exist. `flags` go to compiler and linker."""
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    if shutil.which(compiler[0]) is None:
        raise BuildFailed(f"no compiler {compiler[0]}")
    jobs: dict[str, tuple[Path, tuple[str, ...]]] = {name: (HERE / "src" / name, ()) for name in SHARED_SOURCES}
    for variant, options in VARIANTS.get(target, {"portable": ()}).items():
        jobs[variant] = (HERE / "src" / "variant.cpp", (f"-DINT8_VARIANT={variant}", *options))
    running = {}
    for name, (source, options) in jobs.items():
        command = [*compiler, *COMPILE, *optimise, *flags, *options, "-c", str(source), "-o", str(folder / f"{name}.o")]
        running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = {name: process.communicate()[0] for name, process in running.items()}  # each waits, and all run meanwhile
    for name, process in running.items():
        if process.returncode:
            raise BuildFailed(f"{name} doesn't compile:\n{said[name]}")
    return _link(compiler, folder, list(jobs), flags)


def _link(compiler: list[str], folder: Path, names: list[str], flags: tuple[str, ...]) -> Path:
    library = folder / LIBRARY
    objects = [str(folder / f"{name}.o") for name in names]
    linked = subprocess.run(
        [*compiler, *LINK, *flags, *objects, "-o", str(library), "-lm"], capture_output=True, text=True, check=False
    )
    if linked.returncode:
        raise BuildFailed(f"the library doesn't link:\n{linked.stderr}")
    return library


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    """PEP 517's hook. The name of the wheel written into `wheel_directory`. Raises BuildFailed."""
    target = os.environ.get("INT8_ENCODER_TARGET", platform.machine())
    files = {f"{NAME}/{path.name}": path.read_bytes() for path in sorted((HERE / NAME).glob("*.py"))}
    files[f"{NAME}/py.typed"] = b""
    with tempfile.TemporaryDirectory() as folder:
        files[f"{NAME}/{LIBRARY}"] = compile_library(Path(folder), target).read_bytes()
    return _write_wheel(Path(wheel_directory), files, f"py3-none-linux_{target}")


def _write_wheel(folder: Path, files: dict[str, bytes], tag: str) -> str:
    info = f"{NAME}-{VERSION}.dist-info"
    about = ("Metadata-Version: 2.1", "Name: int8-encoder", f"Version: {VERSION}", "Requires-Python: >=3.11",
             "Summary: BERT-like encoders in int8 on one core", "License: Apache-2.0", "")  # fmt: skip
    wheel = ("Wheel-Version: 1.0", "Generator: build_backend", "Root-Is-Purelib: false", f"Tag: {tag}", "")
    files[f"{info}/METADATA"], files[f"{info}/WHEEL"] = "\n".join(about).encode(), "\n".join(wheel).encode()
    rows = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(content)}\n")
    files[f"{info}/RECORD"] = ("".join(rows) + f"{info}/RECORD,,\n").encode()
    name = f"{NAME}-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return name


if __name__ == "__main__":
    build_wheel(sys.argv[1])
