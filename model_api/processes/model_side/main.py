"""The model processes: a fork server that has imported torch, a leader per version, a lane per core.

Each dies with its parent (PR_SET_PDEATHSIG, and end-of-file on its socket), so that nothing is left behind whoever is
killed. Signals meant for the service (SIGTERM goes to the whole control group, Ctrl-C to the whole terminal) are
ignored here: the web process drains first and then closes the sockets.
"""

import contextlib
import os
import select
import signal
import socket
import sys
from typing import NoReturn

from model_api.processes import messages
from model_api.processes.model_side.forking import die_with_parent, fork_child, wake_on_child
from model_api.processes.model_side.leader import lead
from model_api.processes.model_side.shared_code import AGAIN, SharedCode


class ForkServer:
    """Forks a leader for every socket that it is sent, and says over that socket how the leader ended. One that ends
    with AGAIN has code compiled for its model's shape first, and is forked anew."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._leaders: dict[int, socket.socket] = {}
        self._shared = SharedCode()
        self._woken = wake_on_child()

    def serve(self) -> None:
        """Until the web process closes the control socket."""
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
            self._reap()
            if self._control.fileno() in readable and not self._take_order():
                return

    def _take_order(self) -> bool:
        try:
            sent, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        except OSError:
            return False
        if not sent:
            return False
        self._fork(socket.socket(fileno=fds[0]))
        return True

    def _fork(self, connection: socket.socket, *, again: bool = False) -> None:
        def run() -> None:
            self._control.close()
            for other in self._leaders.values():
                other.close()
            signal.set_wakeup_fd(-1)
            os.close(self._woken)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            lead(connection, self._shared, again=again)

        self._leaders[fork_child(run)] = connection

    def _reap(self) -> None:
        for pid, connection in list(self._leaders.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended and os.waitstatus_to_exitcode(status) == AGAIN:
                self._shared.warm_what_was_asked()
                self._fork(self._leaders.pop(pid), again=True)
            elif ended:
                with contextlib.suppress(OSError):
                    messages.send_without_waiting(
                        connection, {"event": "ended", "status": os.waitstatus_to_exitcode(status)}
                    )
                self._leaders.pop(pid).close()


def main(control_fd: int, parent_pid: int) -> NoReturn:
    """The fork server: import what every model needs, on one thread, then fork on demand."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    die_with_parent(parent_pid)
    from model_api.processes.model_side.bring_up import import_runtime

    import_runtime()
    ForkServer(socket.socket(fileno=control_fd)).serve()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
