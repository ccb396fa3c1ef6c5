"""The children of a leader that loaded its model: lanes, and where the web process must not run the model's tokenizer
a process that does. Each is started anew when it dies, and all of them when another web process takes over."""

import contextlib
import logging
import os
import random
import select
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.errors import ModelApiError, Refused
from model_api.processes import messages, sandbox
from model_api.processes.keeping import SUCCESSOR_TIMEOUT_S
from model_api.processes.model_side.bring_up import Loaded
from model_api.processes.model_side.forking import fork_child, wake_on_child
from model_api.processes.model_side.lane_loop import run_encoder, run_lane
from model_api.processes.model_side.limits import ENCODER_OOM_SCORE, be_ended_before_others, mapped_bytes
from model_api.processes.model_side.recheck import DAMAGED, recheck
from model_api.processes.spec import ENCODER_INDEX, HEARTBEAT_S, LeaderSpec
from model_api.repository.signatures import signer
from model_api.tasks.text.chat_template import has_template

log = logging.getLogger(__name__)

_RESTART_AT_MOST_EVERY_S = 1.0
_SUSPICIOUS_DEATHS, _WITHIN_S = 3, 10.0
RENDERING_BYTES = 512 * 2**20  # what a chat template may take beside what its process has
_WEB_PROCESS_GONE = (messages.PeerGone, ConnectionError)


class Children:
    """On the leader's only thread."""

    def __init__(
        self,
        control: socket.socket,
        handover: socket.socket,
        loaded: Loaded,
        spec: LeaderSpec,
        found: Mapping[str, Any],
    ) -> None:
        """`found` is what the web process was told when loading began, and what the next one must know."""
        self._control = control
        self._handover = handover
        self._loaded = loaded
        self._spec = spec
        self._found = found
        self._woken = wake_on_child()  # a child's end interrupts select
        self._pids: dict[int, int] = {}
        self._started: dict[int, float] = {}
        self._deaths: list[float] = []
        self._rechecking: int | None = None
        self._recheck_at = time.monotonic() + self._until_recheck_s()
        self._damaged = False
        self._runs: dict[int, Callable[[socket.socket], None]] = {
            index: lambda connection: run_lane(connection, loaded.model) for index in range(spec.lanes)
        }
        if loaded.encoder is not None:
            self._runs[ENCODER_INDEX] = self._run_encoder

    def run(self) -> None:
        """Fork all, say ready, and keep them alive: until a web process says that it has done with them, until the copy
        that they run from is found damaged, or until a web process ended and no other came."""
        with contextlib.suppress(OSError):
            self._handover.send(b"L")
        going_on = True
        while going_on:
            try:
                self._serve()
                going_on = False
            except _WEB_PROCESS_GONE:
                self._end_all()
                going_on = self._take_over()
        self._end_all()

    def _serve(self) -> None:
        """For one web process. Raises PeerGone or ConnectionError when that has ended."""
        for index in self._runs:
            self._fork(index)
        model = self._loaded.model
        settled = {"precision": model.precision, "precision_reason": model.precision_reason}
        messages.send(self._control, {"event": "ready", **settled})
        while not self._damaged:
            readable, _, _ = select.select([self._control.fileno(), self._woken], [], [], self._until_next_s())
            if self._control.fileno() in readable:
                request, _ = messages.receive(self._control)
                if "end" in request:
                    return
                self._kill(request["kill_lane"])
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
            with contextlib.suppress(OSError):
                messages.send_without_waiting(self._control, {"event": "alive"})
            self._reap()
            self._recheck_if_due()
            self._restart_dead()

    def _take_over(self) -> bool:
        """Wait for the next web process; whether one came in time, and orders what is loaded here.

        A lane is never handed on: that of the web process that ended, with what it computes, was killed, and the next
        one gets its own. A web process that merely hangs has ended nothing, and keeps what it has.
        """
        while select.select([self._handover], [], [], SUCCESSOR_TIMEOUT_S)[0]:
            sent, fds, _, _ = socket.recv_fds(self._handover, 1, 1)
            if not sent or not fds:
                return False
            self._control.close()
            self._control = socket.socket(fileno=fds[0])
            with contextlib.suppress(*_WEB_PROCESS_GONE):
                return self._adopt(LeaderSpec.from_message(messages.receive(self._control)[0]))
        return False

    def _adopt(self, order: LeaderSpec) -> bool:
        """Whether what is loaded here is what `order` asks for, and still may be served. Raises as `_serve`."""
        if order.key() != self._spec.key():
            return False
        try:
            if order.trusted_signers is not None:
                signer(order.manifest, Path(order.trusted_signers))
        except ModelApiError as error:
            final = isinstance(error, Refused)
            messages.send(self._control, {"event": "failed", "reason": str(error), "final": final})
            return False
        self._recheck_at = time.monotonic()  # in idle time: it was right when it was last looked at
        messages.send(self._control, {"event": "stage", "stage": "adopting", **self._found})
        return True

    def _end_all(self) -> None:
        for index, pid in self._pids.items():
            self._kill(index)
            os.waitpid(pid, 0)
        self._pids.clear()

    def _run_encoder(self, connection: socket.socket) -> None:
        assert self._loaded.encoder is not None
        be_ended_before_others(ENCODER_OOM_SCORE)
        if has_template(self._loaded.folder):
            missing = sandbox.close(None, mapped_bytes() + RENDERING_BYTES, max_cpu_s=2**31)
            if missing:
                log.warning("a chat template runs with less around it", extra={"fields": {"missing": missing}})
        run_encoder(connection, self._loaded.encoder)

    def _fork(self, index: int) -> None:
        web_end, lane_end = socket.socketpair()

        def run() -> None:
            self._control.close()
            self._handover.close()
            web_end.close()
            os.close(signal.set_wakeup_fd(-1))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._runs[index](lane_end)

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
        now = time.monotonic()
        for index, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[index]
                self._deaths = [*[at for at in self._deaths if now - at < _WITHIN_S], now]
                # A mapped file that was cut short gives SIGBUS; other damage shows as crash after crash.
                if os.waitstatus_to_exitcode(status) == -signal.SIGBUS or len(self._deaths) >= _SUSPICIOUS_DEATHS:
                    self._recheck_at = now
        if self._rechecking is not None:
            ended, status = os.waitpid(self._rechecking, os.WNOHANG)
            if ended:
                self._rechecking = None
                self._damaged = os.waitstatus_to_exitcode(status) == DAMAGED

    def _recheck_if_due(self) -> None:
        now = time.monotonic()
        if now < self._recheck_at or self._rechecking is not None:
            return
        self._recheck_at = now + self._until_recheck_s()
        self._rechecking = fork_child(lambda: recheck(self._spec, self._loaded))

    def _until_recheck_s(self) -> float:
        return self._spec.recheck_s * random.uniform(0.8, 1.2)  # noqa: S311 - not all versions at once

    def _dead(self) -> list[int]:
        return [index for index in self._runs if index not in self._pids]

    def _until_next_s(self) -> float:
        """Seconds until the next heartbeat, or until a dead child may start again: one that dies at once must not keep
        a core busy forking."""
        due = [self._started[index] + _RESTART_AT_MOST_EVERY_S for index in self._dead()]
        return max(0.0, min([*due, self._recheck_at, time.monotonic() + HEARTBEAT_S]) - time.monotonic())

    def _restart_dead(self) -> None:
        for index in self._dead():
            if time.monotonic() - self._started[index] >= _RESTART_AT_MOST_EVERY_S:
                self._fork(index)
