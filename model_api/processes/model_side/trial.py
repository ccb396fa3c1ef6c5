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
from model_api.processes.model_side.forking import fork_child
from model_api.processes.model_side.lane_loop import run_lane
from model_api.processes.model_side.limits import TRIAL_OOM_SCORE, be_ended_before_others
from model_api.repository.manifest import Manifest
from model_api.tasks.contract import Array, Limits, ModelSide, Task
from model_api.tasks.text.chat_template import has_template
from model_api.tasks.text.settled_tokenizer import settle
from model_api.tasks.text.tokenizer_kinds import why_elsewhere


class Child:
    """A forked process that talks over a socket pair. A context manager; leaving it ends the child."""

    def __init__(self, run: Callable[[socket.socket], None], what: str) -> None:
        """`what` names its work in errors. What `run` raises is told as an answer."""
        self._run, self._what = run, what

    def __enter__(self) -> "Child":
        self._ours, theirs = socket.socketpair()

        def run() -> None:
            self._ours.close()
            be_ended_before_others(TRIAL_OOM_SCORE)
            try:
                self._run(theirs)
            except Refused as error:
                messages.send(theirs, {"refused": [error.path, error.reason]})
            except BaseException as error:  # a panic of a native library is no Exception
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                messages.send(theirs, {"error": reason, "final": not _is_the_machines(error)})
                raise

        with theirs:
            self._pid: int | None = fork_child(run)
        return self

    def ask(self, header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> list[Array]:
        """Send it something and take its answer. Raises Refused or LoadFailed."""
        try:
            messages.send(self._ours, header, arrays)
        except OSError:
            raise self._how_it_ended() from None
        return self.answer()

    def answer(self) -> list[Array]:
        """The arrays that it sends next. Raises Refused or LoadFailed."""
        return self.told()[1]

    def told(self) -> tuple[dict[str, Any], list[Array]]:
        """What it sends next. Raises Refused where the content is the cause, else LoadFailed."""
        try:
            header, arrays = messages.receive(self._ours)
        except OSError:
            raise self._how_it_ended() from None
        if "refused" in header:
            raise Refused(*header["refused"])
        if "error" in header:
            reason = f"{self._what} failed ({header['error']})"
            raise Refused("", reason) if header.get("final", True) else LoadFailed(reason)
        return header, arrays

    def _how_it_ended(self) -> Refused | LoadFailed:
        assert self._pid is not None
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = None
        if status in (-signal.SIGKILL, -signal.SIGBUS):  # from outside; or the disk under a mapped file
            return LoadFailed(f"{self._what} was ended by {signal.Signals(-status).name} (out of memory?)")
        how = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Refused("", f"{self._what} crashed ({how})")

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        if self._pid is not None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _is_the_machines(error: BaseException) -> bool:
    """An OSError with a number is the system's own; libraries also raise it, without one, for bad content."""
    return isinstance(error, OSError) and error.errno is not None


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
        task.convert(folder, manifest, precision)
        messages.send(connection, {})

    with Child(run, "the conversion") as child:
        child.answer()


def why_encoded_elsewhere(task: Task, folder: Path) -> str:
    """Settle what the model's tokenizer is and whatever else the task's web side will read, and judge the tokenizer, in
    a child; "" if the web process may run it. Raises Refused or LoadFailed."""

    def run(connection: socket.socket) -> None:
        settle(folder)
        task.settle(folder)
        apart = "it has a chat template, which is a program" if has_template(folder) else ""
        messages.send(connection, {"why": why_elsewhere(folder) or apart})

    with Child(run, "looking at the tokenizer") as child:
        return str(child.told()[0]["why"])


def float32_reference(task: Task, folder: Path, manifest: Manifest, limits: Limits) -> Child:
    """A child whose answer is the outputs for the task's warm inputs in float32; it works while we load."""

    def run(connection: socket.socket) -> None:
        model = task.load_model(folder, manifest, "float32")
        web = task.open_web(folder, manifest, limits)
        prepared = web.prepare(task.warm_inputs, {**task.warm_parameters, **web.warm_parameters()})
        messages.send(connection, {}, list(model.forward(prepared.arrays, prepared.parameters)))

    return Child(run, "the float32 comparison")
