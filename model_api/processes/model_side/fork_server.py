"""The fork server: a leader for every order of a web process, forked, or one that another web process left behind. One
that ends with AGAIN has code compiled for its model's shape first (shared_code.py), and is forked anew.

A web process that ends, however it ends, closes its connection, and the kernel says so here before anybody can start
the next one. The leaders that it had are then nobody's: each ends its lanes, and goes to whom orders the same, or ends.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

from model_api.processes import messages
from model_api.processes.keeping import SUCCESSOR_TIMEOUT_S
from model_api.processes.model_side.forking import fork_child, wake_on_child
from model_api.processes.model_side.leader import lead
from model_api.processes.model_side.shared_code import AGAIN, SharedCode
from model_api.processes.spec import KEY_BYTES

_HELLO_TIMEOUT_S = 1.0

log = logging.getLogger(__name__)


@dataclass
class _Leader:
    """`control` is the leader's own end of its web process's socket, kept to say there how it ended; `handover` is
    where it takes another one, and where it says that it is loaded. `web` ordered it; None: nobody's."""

    key: str
    control: socket.socket
    handover: socket.socket
    web: socket.socket | None
    loaded: bool = False


class ForkServer:
    """On its process's only thread."""

    def __init__(self, code: str, *, listener: socket.socket | None, web: socket.socket | None) -> None:
        """With a `listener` web processes come and go, else `web` is the only one. `code` is this code's version."""
        self._code = code
        self._listener = listener
        self._webs = set() if web is None else {web}
        self._leaders: dict[int, _Leader] = {}
        self._shared = SharedCode()
        self._woken = wake_on_child()
        self._alone_since = time.monotonic()

    def serve(self) -> None:
        """Until the only web process ends; or until there was none for SUCCESSOR_TIMEOUT_S."""
        while self._webs or (self._listener and time.monotonic() - self._alone_since < SUCCESSOR_TIMEOUT_S):
            handovers = {leader.handover: leader for leader in self._leaders.values() if not leader.loaded}
            ends: list[Any] = [self._woken, *handovers, *self._webs, *([self._listener] if self._listener else [])]
            readable, _, _ = select.select(ends, [], [], None if self._webs else 1.0)
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
            for handover in handovers.keys() & set(readable):
                handovers[handover].loaded = bool(handover.recv(1))
            self._reap()
            # What the web processes that ended left is known before another one is told what there is.
            for web in [web for web in self._webs if web in readable]:
                if not self._take_order(web):
                    self._lose(web)
            if self._listener in readable:
                self._greet()

    def _greet(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            web, _ = self._listener.accept()
            web.settimeout(_HELLO_TIMEOUT_S)
            waiting = [leader.key for leader in self._leaders.values() if leader.web is None and leader.loaded]
            messages.send(web, {"code": self._code, "waiting": waiting})
            web.settimeout(None)
            self._webs.add(web)

    def _lose(self, web: socket.socket) -> None:
        self._webs.remove(web)
        web.close()
        self._alone_since = time.monotonic()
        for leader in self._leaders.values():
            if leader.web is web:
                leader.web = None

    def _take_order(self, web: socket.socket) -> bool:
        """Whether the web process is still there."""
        try:
            sent, fds, _, _ = socket.recv_fds(web, KEY_BYTES, 1)
        except OSError:
            return False
        if not sent or not fds:
            return False
        control, key = socket.socket(fileno=fds[0]), sent.hex()
        left = ((pid, one) for pid, one in self._leaders.items() if one.web is None and one.loaded and one.key == key)
        pid, leader = next(left, (0, None))
        if leader is None:
            self._fork(key, control, web)
        else:
            self._hand_over(pid, leader, control, web)
        return True

    def _hand_over(self, pid: int, leader: _Leader, control: socket.socket, web: socket.socket) -> None:
        leader.control.close()
        leader.control, leader.web = control, web
        _say(control, {"event": "started", "pid": pid})
        with contextlib.suppress(OSError):  # it is ending: that will be said in a moment
            socket.send_fds(leader.handover, [b"H"], [control.fileno()])

    def _fork(self, key: str, control: socket.socket, web: socket.socket | None, *, again: bool = False) -> None:
        handover, leaders_end = socket.socketpair()

        def run() -> None:
            for end in (handover, self._listener, *self._webs):
                if end is not None:
                    end.close()
            for other in self._leaders.values():
                other.control.close()
                other.handover.close()
            signal.set_wakeup_fd(-1)
            os.close(self._woken)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            lead(control, leaders_end, self._shared, again=again)

        with leaders_end:
            try:
                pid = fork_child(run)
            except OSError as error:  # too many processes: the web process tries again
                log.error("no leader can be forked", extra={"fields": {"error": str(error)}})
                control.close()
                handover.close()
                return
        self._leaders[pid] = _Leader(key, control, handover, web)

    def _reap(self) -> None:
        for pid, leader in list(self._leaders.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._leaders[pid]
            leader.handover.close()
            if os.waitstatus_to_exitcode(status) == AGAIN:
                self._shared.warm_what_was_asked()
                self._fork(leader.key, leader.control, leader.web, again=True)
            else:
                _say(leader.control, {"event": "ended", "status": os.waitstatus_to_exitcode(status)})
                leader.control.close()


def _say(control: socket.socket, event: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        messages.send_without_waiting(control, event)
