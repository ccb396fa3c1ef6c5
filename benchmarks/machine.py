"""What the figures were taken on."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS
from benchmarks.environments import own_python, peer_python, versions

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
PEER_PACKAGES = {
    "naive": ["sentence-transformers", "torch", "transformers", "gunicorn"],
    "litserve": ["litserve", "sentence-transformers", "torch", "transformers"],
    "infinity": ["infinity-emb", "sentence-transformers", "torch", "transformers", "onnxruntime"],
}
OWN_PACKAGES = ["flask", "gunicorn", "numpy", "orjson", "tokenizers", "torch"]


def describe(contenders: list[str]) -> dict[str, Any]:
    """The machine and the versions installed for `contenders`; every value is JSON."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    words = set(cpuinfo.split())
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo)
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    packages = {"this project": versions(own_python(), OWN_PACKAGES)}
    for name, wanted in PEER_PACKAGES.items():
        if name in contenders:
            packages[CONTENDERS[name].title] = versions(peer_python(name), wanted)
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in words],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory_kib * 1024 / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "wrk": _first_line(["wrk", "-v"]),
        "packages": packages,
    }


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0].split(" [")[0]
