"""A machine whose process 1 is a real systemd: a user-mode-linux kernel, and units that a test gives.

    answer = run_under_systemd(tmp_path, {"web.service": text}, check)

`check` is a Python script (standard library) that runs in the machine as a unit and prints one line, `RESULT` and JSON.
The machine sees the host's files under their own paths and writes to none of them. Needs root and the Debian packages
user-mode-linux, systemd and kmod.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.needs import needs, needs_root

_MODULES = Path("/usr/lib/uml/modules")
_INIT = Path(__file__).with_name("systemd_guest.sh")


def run_under_systemd(
    folder: Path, units: Mapping[str, str], check: Path, memory_mb: int = 512, timeout_s: float = 180.0
) -> Any:
    """`units`: what lies in /etc/systemd/system, by path. What the check printed, parsed."""
    needs_root("a machine's files are this one's")
    for program in ("linux.uml", "modprobe", "/lib/systemd/systemd", str(_MODULES)):
        needs(program)
    for name, text in units.items():
        path = folder / "units" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    modules = folder / "modroot/lib/modules"
    modules.parent.mkdir(parents=True)
    modules.symlink_to(_MODULES)
    passed = {
        "guest_modules": folder / "modroot",
        "guest_units": folder / "units",
        "guest_python": Path(sys.executable).resolve(),
        "guest_check": check,
    }
    kernel = f"umid=systemd uml_dir={folder} mem={memory_mb}M quiet con=null con0=null,fd:1 con1=null"
    root = f"root=/dev/root rootfstype=hostfs rootflags=/ ro init={_INIT}"
    command = ["linux.uml", *kernel.split(), *root.split(), *(f"{key}={value}" for key, value in passed.items())]
    console = folder / "console.log"
    with console.open("wb") as output:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=timeout_s, check=False)
    told = console.read_text(errors="replace")
    results = [line.partition("RESULT ")[2] for line in told.splitlines() if "RESULT " in line]
    assert len(results) == 1, told[-4000:]
    return json.loads(results[0])
