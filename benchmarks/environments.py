"""A virtual environment per peer, so that their requirements never meet: `.venvs/bench-NAME`, made on first use."""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"


def own_python() -> Path:
    """The project's own environment, the one that runs the benchmark; made by scripts/setup."""
    return ROOT / ".venv" / "bin" / "python"


def peer_python(name: str) -> Path:
    """The interpreter of a peer's environment; installs what benchmarks/requirements-NAME.txt names if it changed."""
    requirements = ROOT / "benchmarks" / f"requirements-{name}.txt"
    folder = ROOT / ".venvs" / f"bench-{name}"
    python = folder / "bin" / "python"
    torch = next(
        line for line in (ROOT / "requirements-torch.txt").read_text().splitlines() if line.startswith("torch==")
    )
    wanted = requirements.read_text() + torch
    stamp = folder / f"installed-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    if not stamp.exists():
        print(f"benchmarks: setting up {folder.relative_to(ROOT)} (minutes, once)", file=sys.stderr, flush=True)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(ROOT / "scripts" / "install-torch"), str(python)], check=True)
        pip = [str(ROOT / "scripts" / "pip"), str(python)]
        subprocess.run([*pip, "install", "--quiet", "-r", str(requirements)], check=True)
        stamp.touch()
    return python


def versions(python: Path, packages: list[str]) -> dict[str, str]:
    """Installed versions of `packages` as that interpreter sees them."""
    code = "import sys, importlib.metadata as m; print('\\n'.join(m.version(p) for p in sys.argv[1:]))"
    done = subprocess.run([str(python), "-c", code, *packages], check=True, capture_output=True, text=True)
    return dict(zip(packages, done.stdout.split(), strict=True))
