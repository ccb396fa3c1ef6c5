"""What a model can be asked to do: one module per task, found by the manifest's `task` in known_tasks.TASKS."""

import importlib
from pathlib import Path

from model_api.errors import Refused
from model_api.repository.known_tasks import TASKS
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Limits, Task, WebSide


def find_task(name: str) -> Task:
    """The task of that name. Raises Refused for one that this release doesn't know."""
    if name not in TASKS:
        raise Refused("manifest.json", f"unknown task {name!r}; this release knows {', '.join(sorted(TASKS))}")
    task = importlib.import_module(f"model_api.tasks.{TASKS[name].module}").TASK
    assert isinstance(task, Task)
    return task


def open_web(folder: Path, manifest: Manifest, limits: Limits) -> WebSide:
    """The web side of the model in `folder`. Raises Refused, whatever its files hold; OSError."""
    try:
        return find_task(manifest.task).open_web(folder, manifest, limits)
    except (Refused, OSError):
        raise
    except Exception as error:
        raise Refused("", f"its files aren't a model's ({type(error).__name__}: {error})") from error


def is_long_running(name: str) -> bool:
    """Whether a forward of this task takes seconds. False for an unknown task."""
    return name in TASKS and find_task(name).long_running


def is_interruptible(name: str) -> bool:
    """Whether its forwards can be interrupted and tell of an answer that grows. False for an unknown task."""
    return name in TASKS and find_task(name).interruptible


def loading_bytes(folder: Path, manifest: Manifest, precision: str) -> int:
    """The estimated peak of loading `manifest`, whose copy lies, or will, in `folder`."""
    if manifest.task not in TASKS:
        return manifest.memory_bytes
    return find_task(manifest.task).loading_bytes(folder, manifest, precision)
