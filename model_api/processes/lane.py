"""The web process's end of one lane, and what the batcher may ask of lanes and their groups."""

import contextlib
import logging
import select
import socket
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from model_api.errors import ForwardFailed
from model_api.processes import messages
from model_api.tasks.contract import Array

log = logging.getLogger(__name__)

LOOK_FOR_CALLERS_EVERY_S = 0.25
TURN_S = 1.0  # what can be interrupted has the lane for so long, whoever waits: to go on it begins with its input again
LEAVE_GRACE_S = 5.0  # for a token, or for the input: longer, and the lane is killed


class LaneGone(Exception):
    """The lane died or was killed in mid-forward; what it ran may run elsewhere."""


class LaneLeft(Exception):
    """The lane ended its forward because it was wanted for something else; `arrays` are what to hand it to go on."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        super().__init__("interrupted")
        self.arrays = arrays


@dataclass(frozen=True)
class Listener:
    """Who listens to a forward that can be interrupted. Both are called on the runner's thread."""

    wanted: Callable[[], str]
    """Why the lane had better be free, as Talk.wanted has it."""

    on_part: Callable[[str, int], None] | None
    """Takes pieces of the answer with their places in it, where somebody wants them."""


class Lane(Protocol):
    """One model process, that runs one batch at a time."""

    def start(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Hand it a batch, without waiting for the outputs; with a `listener`, of one row. Raises LaneGone if the
        process died."""

    def outputs(self) -> Sequence[Array]:
        """One output per array, in order. Raises ForwardFailed if the model raised, LaneGone if the process died, took
        longer than its `timeout_s`, or was ended because `abandoned`, which is asked now and then, said that nobody
        waits for the outputs. Raises LaneLeft where its listener wanted that."""


class LaneGroup(Hashable, Protocol):
    """The lanes of one loaded version. Called by the batcher under its lock, so it must not block."""

    long_running: bool
    """Whether a batch takes seconds; such batches have a runner of their own and never hold the others'."""

    interruptible: bool
    """Whether its forwards can be interrupted and tell of their answer as it grows; their batches are single rows."""

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
        self._listener: Listener | None = None
        self.alive = True

    def start(
        self,
        arrays: Sequence[Array],
        parameters: Mapping[str, Any],
        timeout_s: float,
        abandoned: Callable[[], bool] | None = None,
        listener: Listener | None = None,
    ) -> None:
        """See Lane."""
        self._timeout_s = timeout_s
        self._abandoned, self._listener = abandoned, listener
        talk = {} if listener is None else {"tells": listener.on_part is not None}
        with self._gone_if_broken():
            self._connection.settimeout(timeout_s)
            messages.send(self._connection, {"parameters": parameters, **talk}, arrays)

    def outputs(self) -> Sequence[Array]:
        """See Lane. A lane that isn't done after `timeout_s`, or that was abandoned, is killed."""
        with self._gone_if_broken():
            if self._listener is not None:
                header, outputs = self._listen(self._timeout_s, self._listener)
            else:
                if self._abandoned is not None:
                    self._wait_for_an_answer(self._timeout_s, self._abandoned)
                header, outputs = messages.receive(self._connection)
        if "error" in header:
            log.error("forward raised", extra={"fields": {"lane_pid": self.pid, "error": header["error"]}})
            raise ForwardFailed("the model failed on this input")
        if not header.get("finished", True):
            raise LaneLeft(outputs)
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

    def _listen(self, timeout_s: float, listener: Listener) -> tuple[dict[str, Any], list[Array]]:
        """Its last word, parts before that passed on. It is told when it had better leave; raises TimeoutError when
        time is up, or when it doesn't leave though nobody waits."""
        began = time.monotonic()
        until, look_at, asked = began + timeout_s, began + LOOK_FOR_CALLERS_EVERY_S, ""
        answers = select.poll()
        answers.register(self._connection, select.POLLIN)
        while True:
            if answers.poll(max(0.0, look_at - time.monotonic()) * 1e3):
                header, outputs = messages.receive(self._connection)
                if "part" not in header:
                    return header, outputs
                if listener.on_part is not None:
                    listener.on_part(header["part"], header["begin"])
            now = time.monotonic()
            if now >= until:
                raise TimeoutError("nobody waits for its answer" if asked == "nobody" else "")
            if now < look_at:
                continue
            look_at = now + LOOK_FOR_CALLERS_EVERY_S
            wanted = listener.wanted()
            if wanted == asked or not wanted or (wanted == "others" and now - began < TURN_S):
                continue
            messages.send(self._connection, {"leave": wanted})
            asked = wanted
            if wanted == "nobody":
                until = min(until, now + LEAVE_GRACE_S)

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self.alive = False
        self._connection.close()
