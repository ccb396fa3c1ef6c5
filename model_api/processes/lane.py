"""The web process's end of one lane, and what the batcher may ask of lanes and their groups."""

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from model_api.errors import ForwardFailed
from model_api.processes import messages
from model_api.tasks.contract import Array

log = logging.getLogger(__name__)

LOOK_FOR_CALLERS_EVERY_S = 0.25


class LaneGone(Exception):
    """The lane died or was killed in mid-forward; what it ran may run elsewhere."""


class Lane(Protocol):
    """One model process, that runs one batch at a time."""

    def start(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        """Hand it a batch, without waiting for the outputs. Raises LaneGone if the process died."""

    def outputs(self) -> Sequence[Array]:
        """One output per array, in order. Raises ForwardFailed if the model raised, LaneGone if the process died, took
        longer than its `timeout_s`, or was ended because `abandoned`, which is asked now and then, said that nobody
        waits for the outputs."""


class LaneGroup(Hashable, Protocol):
    """The lanes of one loaded version. Called by the batcher under its lock, so it must not block."""

    long_running: bool
    """Whether a batch takes seconds; such batches have a runner of their own and never hold the others'."""

    max_batch_tokens: int | None
    """What a batch of it may hold at most, where its author says so."""

    seconds_per_token: float
    """What a token of this version costs, as its batches show; the batcher keeps it up to date under its lock."""

    def is_open(self) -> bool:
        """False once the version goes away; from then on nothing is queued for it."""

    def take_lane(self) -> Lane | None: ...
    def idle_lanes(self) -> int: ...
    def put_lane(self, lane: Lane) -> None: ...


class ProcessLane:
    """One single-threaded model process. Used by one runner thread at a time."""

    def __init__(self, index: int, pid: int, connection: socket.socket, kill: Callable[[int], None]) -> None:
        self.index = index
        self.pid = pid
        self._connection = connection
        self._kill = kill
        self._timeout_s = 0.0
        self._abandoned: Callable[[], bool] | None = None
        self.alive = True

    def start(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        """See Lane."""
        self._timeout_s = timeout_s
        self._abandoned = abandoned
        with self._gone_if_broken():
            self._connection.settimeout(timeout_s)
            messages.send(self._connection, {"parameters": parameters}, arrays)

    def outputs(self) -> Sequence[Array]:
        """See Lane. A lane that isn't done after `timeout_s`, or that was abandoned, is killed."""
        with self._gone_if_broken():
            if self._abandoned is not None:
                self._wait_for_an_answer(self._timeout_s, self._abandoned)
            header, outputs = messages.receive(self._connection)
        if "error" in header:
            log.error("forward raised", extra={"fields": {"lane_pid": self.pid, "error": header["error"]}})
            raise ForwardFailed("the model failed on this input")
        return outputs

    @contextlib.contextmanager
    def _gone_if_broken(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                fields = {"lane_pid": self.pid, "timeout_s": round(self._timeout_s, 1)}
                log.error(f"lane killed: {error or 'no answer in time'}", extra={"fields": fields})
                self._kill(self.index)
            self.close()
            raise LaneGone(str(error)) from error

    def _wait_for_an_answer(self, timeout_s: float, abandoned: Callable[[], bool]) -> None:
        """Until its first byte. Raises TimeoutError when time is up, or when nobody waits any more."""
        deadline = time.monotonic() + timeout_s
        answers = select.poll()
        answers.register(self._connection, select.POLLIN)
        while not answers.poll(LOOK_FOR_CALLERS_EVERY_S * 1e3):
            if abandoned():
                raise TimeoutError("nobody waits for its answer")
            if time.monotonic() >= deadline:
                raise TimeoutError

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self.alive = False
        self._connection.close()
