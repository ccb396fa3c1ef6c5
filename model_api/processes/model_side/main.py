"""The model processes: a fork server that has imported torch, a leader per version, a lane per core.

Each dies with its parent (PR_SET_PDEATHSIG, and end-of-file on its socket), so that nothing is left behind whoever is
killed. Signals meant for the service (SIGTERM goes to the whole control group, Ctrl-C to the whole terminal) are
ignored here: the web process drains first and then closes the sockets.
"""

import os
import signal
import socket
import sys
from typing import Any, NoReturn

from model_api.processes import messages
from model_api.processes.model_side.forking import die_with_parent, fork_child
from model_api.processes.model_side.leader import lead


def serve_forks(control: socket.socket) -> None:
    """The fork server's loop: a message with a socket asks for a leader that talks over it."""
    while True:
        try:
            order, _ = messages.receive(control)
            _, fds, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            return
        with socket.socket(fileno=fds[0]) as connection:

            def run(order: dict[str, Any] = order, connection: socket.socket = connection) -> None:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                lead(connection, order)

            fork_child(run)


def main(control_fd: int, parent_pid: int) -> NoReturn:
    """The fork server: import what every model needs, on one thread, then fork on demand."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaders are reaped by the kernel
    die_with_parent(parent_pid)
    from model_api.processes.model_side.bring_up import import_runtime

    import_runtime()
    serve_forks(socket.socket(fileno=control_fd))
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
