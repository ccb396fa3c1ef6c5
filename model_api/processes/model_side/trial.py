"""Children of a leader that do one piece of its work and are gone before the lanes begin. Model side only."""

import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_api.errors import LoadFailed, Refused
from model_api.processes import messages
from model_api.processes.model_side.checks import PROBE_LIMITS
from model_api.processes.model_side.forking import fork_child
from model_api.processes.model_side.lane_loop import run_lane
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, ModelSide, Task


class Child:
    """A forked process that talks over a socket pair. A context manager; leaving it ends the child."""

    def __init__(self, run: Callable[[socket.socket], None], what: str) -> None:
        """`what` names its work in errors."""
        self._run, self._what = run, what

    def __enter__(self) -> "Child":
        self._ours, theirs = socket.socketpair()
        with theirs:
            self._pid = fork_child(lambda: self._run(theirs))
        return self

    def ask(self, header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> list[Array]:
        """Send it something and take its answer. Raises LoadFailed."""
        try:
            messages.send(self._ours, header, arrays)
        except OSError as error:
            raise LoadFailed(f"{self._what} ended early (out of memory?)") from error
        return self.answer()

    def answer(self) -> list[Array]:
        """The arrays that it sends next. Raises Refused or LoadFailed."""
        try:
            header, arrays = messages.receive(self._ours)
        except OSError as error:
            raise LoadFailed(f"{self._what} ended without an answer (out of memory?)") from error
        if "refused" in header:
            raise Refused(*header["refused"])
        if "error" in header:
            raise LoadFailed(f"{self._what} failed: {header['error']}")
        return arrays

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class Trial:
    """Runs a model that must not run in the leader, in a child instead. A context manager."""

    def __init__(self, model: ModelSide) -> None:
        self._child = Child(lambda connection: run_lane(connection, model), "the trial run")

    def __enter__(self) -> "Trial":
        self._child.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__()

    def forward(self, arrays: Sequence[Array], parameters: Mapping[str, Any]) -> Sequence[Array]:
        return [np.asarray(output) for output in self._child.ask({"parameters": parameters}, arrays)]


def convert(task: Task, folder: Path, manifest: Manifest, precision: str) -> None:
    """Run the task's conversion in a child. Raises Refused or LoadFailed."""

    def run(connection: socket.socket) -> None:
        try:
            task.convert(folder, manifest, precision)
        except Refused as error:
            messages.send(connection, {"refused": [error.path, error.reason]})
        except Exception as error:
            messages.send(connection, {"error": str(error) or type(error).__name__})
            raise
        else:
            messages.send(connection, {})

    with Child(run, "the conversion") as child:
        child.answer()


def float32_reference(task: Task, folder: Path, manifest: Manifest) -> Child:
    """A child whose answer is the outputs for the task's warm inputs in float32; it works while we load."""

    def run(connection: socket.socket) -> None:
        model = task.load_model(folder, manifest, "float32")
        web = task.open_web(folder, manifest, PROBE_LIMITS)
        prepared = web.prepare(task.warm_inputs, task.warm_parameters)
        messages.send(connection, {}, list(model.forward(prepared.arrays, prepared.parameters)))

    return Child(run, "the float32 comparison")
