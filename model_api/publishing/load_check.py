"""The real load before a publish: in a process of its own, by the very code that instances run, where that is at hand.

An author's laptop may have neither torch nor the rest; then nobody has tried the model, and the author is told.
Stdlib only, Python 3.9.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import LoadFailed, Refused
from model_api.publishing.draft import Draft
from model_api.repository.accuracy import Accuracy, parse_accuracy
from model_api.repository.known_tasks import TASKS

# The child is named, not imported: it stands floors above, and isn't there on the far side of --to.
_MODULE = "model_api.processes.model_side.load_check"
_NEEDED = ("torch", "safetensors", "tokenizers", "transformers", "pydantic", "numpy")


@dataclass(frozen=True)
class Loaded:
    """How the load went well."""

    precision: str
    probes: int
    accuracy: Accuracy | None  # of int8, where this machine and the model can do it


def lacking(task: str = "") -> str:
    """What a real load of a model for `task` needs and this machine hasn't; "" if all is at hand."""
    if not hasattr(os, "fork"):
        return "os.fork (Linux)"
    try:
        here = importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        here = False
    needed = (*_NEEDED, *(TASKS[task].packages if task in TASKS else ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    return ", ".join(missing if here else [*missing, "the serving side of this project"])


def load_really(made: Draft, report: Callable[[str], object] = lambda stage: None) -> Loaded:
    """Load, warm and probe the draft. Raises Refused for what every instance would refuse, LoadFailed for what may be
    this machine's fault; OSError."""
    with tempfile.TemporaryDirectory(prefix="model-api-check-") as scratch:
        folder = Path(scratch) / "model"
        lay_out(made, folder)
        answer = _ask(made, folder, report)
    if "precision" in answer:
        accuracy = parse_accuracy(answer["accuracy"]) if answer["accuracy"] is not None else None
        return Loaded(str(answer["precision"]), len(made.manifest.probes), accuracy)
    if "refused" in answer:
        path, reason = answer["refused"]
        raise Refused(path, f"{reason} (a load says so: every instance would refuse it)")
    raise LoadFailed(f"the load failed: {answer['failed']}; --no-check publishes it all the same")


def lay_out(made: Draft, folder: Path) -> None:
    """What a local copy will be: the listed files and nothing else. Weights, which may be large, are links."""
    folder.mkdir()
    for path, file in made.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".safetensors"):
            target.symlink_to(file.resolve())
        else:
            shutil.copyfile(file, target)


def _ask(made: Draft, folder: Path, report: Callable[[str], object]) -> Mapping[str, Any]:
    message = {"manifest": made.manifest.to_json(), "folder": str(folder)}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command, log = [sys.executable, "-m", _MODULE], folder.parent / "log"  # a pipe that nobody reads could fill up
    with (
        log.open("wb") as noise,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, env=environment
        ) as child,
    ):
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(message).encode())
            child.stdin.close()
            for line in child.stdout:
                answer: dict[str, Any] = json.loads(line)
                if "stage" not in answer:
                    return answer
                report(str(answer["stage"]))
        except BaseException:
            child.kill()
            raise
    told = log.read_text("utf-8", "replace").strip().splitlines()
    why = told[-1] if told else "out of memory?"
    return {"failed": f"its process ended with {child.returncode} ({why})"}
