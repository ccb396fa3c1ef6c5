"""A leader: brings one version up, then keeps a lane per core alive until the web process closes the socket."""

import contextlib
import logging
import os
import select
import signal
import socket
import time
from typing import Any

from model_api.errors import ModelApiError, ProbeFailed, Refused
from model_api.processes import messages
from model_api.processes.model_side.forking import fork_child
from model_api.processes.model_side.lane_loop import run_lane
from model_api.processes.spec import LeaderSpec
from model_api.tasks.contract import ModelSide

log = logging.getLogger(__name__)

_RESTART_AT_MOST_EVERY_S = 1.0


def lead(control: socket.socket, order: dict[str, Any]) -> None:
    """A leader's life: fetch, load, warm, check, fork the lanes, and start each anew that dies.

    `order` is a LeaderSpec's message. Reports stages as they begin, and {"event": "failed"} with `final`.
    """
    messages.send(control, {"event": "started", "pid": os.getpid()})

    def report(stage: str, **details: Any) -> None:
        messages.send(control, {"event": "stage", "stage": stage, **details})

    try:
        from model_api.processes.model_side.bring_up import bring_up

        spec = LeaderSpec.from_message(order)
        model = bring_up(spec, report)
    except Exception as error:
        known = isinstance(error, ModelApiError)
        if not known:
            log.exception("loading failed")
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            final = isinstance(error, Refused | ProbeFailed)
            messages.send(control, {"event": "failed", "reason": reason, "final": final})
        return
    _Lanes(control, model, spec.lanes).run_until_closed()


class _Lanes:
    """The leader's children."""

    def __init__(self, control: socket.socket, model: ModelSide, n_lanes: int) -> None:
        self._control = control
        self._model = model
        self._pids: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._n_lanes = n_lanes

    def run_until_closed(self) -> None:
        """Fork all, say ready, and keep them alive until the web process closes the socket."""
        # SIGCHLD interrupts select through this pipe.
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(reader, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for index in range(self._n_lanes):
            self._fork(index)
        settled = {"precision": self._model.precision, "precision_reason": self._model.precision_reason}
        messages.send(self._control, {"event": "ready", **settled})
        while True:
            wait_s = self._next_restart_s()
            readable, _, _ = select.select([self._control.fileno(), reader], [], [], wait_s)
            if self._control.fileno() in readable:
                try:
                    request, _ = messages.receive(self._control)
                except OSError:
                    break
                self._kill(request["kill_lane"])
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
            self._reap()
            self._restart_dead()
        for index in list(self._pids):
            self._kill(index)

    def _fork(self, index: int) -> None:
        web_end, lane_end = socket.socketpair()

        def run() -> None:
            self._control.close()
            web_end.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run_lane(lane_end, self._model)

        with web_end, lane_end:
            pid = fork_child(run)
            self._pids[index] = pid
            self._started[index] = time.monotonic()
            messages.send(self._control, {"event": "lane", "index": index, "pid": pid})
            socket.send_fds(self._control, [b"F"], [web_end.fileno()])

    def _kill(self, index: int) -> None:
        if pid := self._pids.get(index):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for index, pid in list(self._pids.items()):
            done, _ = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._pids[index]

    def _dead(self) -> list[int]:
        return [index for index in range(self._n_lanes) if index not in self._pids]

    def _next_restart_s(self) -> float | None:
        """Seconds until a dead lane may start again: one that dies at once must not keep a core busy forking."""
        due = [self._started[index] + _RESTART_AT_MOST_EVERY_S - time.monotonic() for index in self._dead()]
        return max(0.0, min(due)) if due else None

    def _restart_dead(self) -> None:
        for index in self._dead():
            if time.monotonic() - self._started[index] >= _RESTART_AT_MOST_EVERY_S:
                self._fork(index)
