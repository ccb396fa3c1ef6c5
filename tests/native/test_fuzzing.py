"""Generated models, texts and wrong arguments (native/fuzz.cpp): under sanitizers here, and on an emulated arm64.

The program itself compares every variant with the portable one, a text alone with the same text in a batch, and expects
each wrong argument to be refused.
"""

import subprocess
from pathlib import Path

import pytest

from tests.native.compiling import fuzz_program
from tests.needs import needs

pytestmark = pytest.mark.integration

# 1 - cosine to the portable variant: other rounding of sums alone, bfloat16 in attention, or 7 instead of 8 bits. The
# models are random, so a few of them make much of little; what is wrong is near 1.
MOST_BY_VARIANT = {"avx512_bf16": 2e-2, "avx512": 1e-1, "avx2": 1e-1}
MOST = 5e-3
SEED, CASES = "20251125", "25"


def worst_distances(command: list[str], cases: str) -> dict[str, float]:
    done = subprocess.run([*command, SEED, cases], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {name: float(worst) for name, worst in (line.split() for line in done.stdout.splitlines())}


def test_no_generated_case_steps_outside_of_memory_or_of_what_c_defines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("g++")
    monkeypatch.setenv("CXX", "g++")
    # Recovery off: the first finding ends the program. The EVEX flag lets AVX-512 processors run the AVX-VNNI variant.
    flags = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-DINT8_EVEX_FOR_TESTS=1")
    program = fuzz_program(tmp_path, "x86_64", "g++", "-O1", flags)
    worst = worst_distances([str(program)], CASES)
    assert "portable" in worst
    assert {name: d for name, d in worst.items() if d > MOST_BY_VARIANT.get(name, MOST)} == {}


def test_the_arm64_kernels_agree_with_the_portable_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("aarch64-linux-gnu-g++")
    needs("qemu-aarch64")
    monkeypatch.setenv("CXX", "aarch64-linux-gnu-g++")
    program = fuzz_program(tmp_path, "aarch64", "aarch64-linux-gnu-g++", "-O2")
    library = ["-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={tmp_path}"]
    all_features = worst_distances(["qemu-aarch64", "-cpu", "max", *library, str(program)], "5")
    assert set(all_features) == {"neon_i8mm", "neon_dotprod", "portable"}
    assert max(all_features.values()) < MOST
    # Neoverse N1 is Graviton 2: it multiplies s8 by s8 only.
    graviton2 = worst_distances(["qemu-aarch64", "-cpu", "neoverse-n1", *library, str(program)], "3")
    assert set(graviton2) == {"neon_dotprod", "portable"}
    assert max(graviton2.values()) < MOST
