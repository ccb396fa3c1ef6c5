"""The model processes: a fork server that has imported torch, a leader per version, a lane per core.

Each dies with its parent (PR_SET_PDEATHSIG, and end-of-file on its socket), so that nothing is left behind whoever is
killed. The fork server's parent is the web process, or where there is one the keeper (processes/keeping.py), which
starts a new web process when one ends; loaded versions wait for it. Signals meant for the service (SIGTERM goes to the
whole control group, Ctrl-C to the whole terminal) are ignored here: the web process drains first and then closes the
sockets.
"""

import os
import signal
import socket
import sys
import time
from typing import NoReturn

from model_api.processes.keeping import code_version
from model_api.processes.model_side.fork_server import ForkServer
from model_api.processes.model_side.forking import die_with_parent


def main(fd: int, parent_pid: int, how: str) -> NoReturn:
    """The fork server: import what every model needs, on one thread, then fork on demand. `fd` is where it takes
    orders: `how` is "own" and it is a web process's socket, or "kept" and it listens for them."""
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    if how == "kept":
        _become_the_keepers_child()
    die_with_parent(parent_pid)
    code = code_version()  # before it is imported: what changes meanwhile is another one
    from model_api.processes.model_side.bring_up import import_runtime

    import_runtime()
    end = socket.socket(fileno=fd)
    ForkServer(code, listener=end if how == "kept" else None, web=None if how == "kept" else end).serve()
    os._exit(0)


def _become_the_keepers_child() -> None:
    launcher_pid = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == launcher_pid:
        time.sleep(0.001)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
