"""The web process's end of the fork server, which starts process groups, and keeps them for the next web process."""

import array
import contextlib
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Set

from model_api.processes import messages
from model_api.processes.keeping import Keeper

_MODEL_PROCESS_ENV = {
    # More threads per lane would fight over the cores; and fork is safe only while its parent ran on one thread.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Keep a batch's buffers for the next batch: without, every forward faults in its pages anew (measured: 2 %).
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    # The threads that copy a model in would each leave a heap behind, of which malloc_trim returns only what is not at
    # its end: 77 MB of a MiniLM, in its leader and for good. With one heap all of it is returned.
    "MALLOC_ARENA_MAX": "1",
}
_HELLO_TIMEOUT_S = 2.0  # of a fork server that has long been there, and may be compiling something
_LAUNCH_TIMEOUT_S = 30.0  # from a new Python to its fork


class ForkServer:
    """Starts process groups. It has imported torch once, so that a group starts in milliseconds.

    With a keeper (keeping.py) it outlives this process, and so do the loaded versions: they wait for a successor that
    orders the same. Without one all of them end with this process.
    """

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._lock = threading.Lock()
        self._keeper = keeper
        self._process: subprocess.Popen[bytes] | None = None  # without a keeper
        self._control: socket.socket | None = None
        self._replaced: list[tuple[subprocess.Popen[bytes] | None, socket.socket]] = []
        self._waiting: set[str] = set()  # keys of versions that were loaded for a web process that ended

    def meet(self) -> None:
        """Find the one that an earlier web process started, and what waits there. Same thread as start."""
        with self._lock:
            if self._keeper is not None:
                self._control = self._meet(self._keeper)

    def start(self) -> None:
        """Start it in the background if none was met: importing torch takes a second or two.

        Called on a thread that lives as long as the web process: the kernel ends a fork server that has no keeper when
        the thread that started it ends.
        """
        with self._lock:
            self._ensure()

    def waiting(self) -> Set[str]:
        """Keys with which `spawn` will find a version loaded."""
        return self._waiting

    def spawn(self, key: str) -> socket.socket:
        """Have a leader forked, or one found that was loaded by an order of the same `key` (LeaderSpec.key) and whose
        web process ended; our end of its control socket, over which it waits for its order. Never waits for the fork
        server: one that takes nothing any more is replaced. Same thread as start. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for attempt in (1, 2):
                try:
                    control = self._ensure()
                    fds = array.array("i", [theirs.fileno()])
                    # Not socket.send_fds, which drops the flag.
                    control.sendmsg(
                        [bytes.fromhex(key)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], socket.MSG_DONTWAIT
                    )
                    self._waiting.discard(key)
                    return ours
                except OSError as error:
                    if attempt == 2:
                        ours.close()
                        raise
                    if isinstance(error, BlockingIOError):
                        self._set_aside()
                    else:
                        self._drop()
        raise AssertionError("unreachable")

    def replace(self) -> None:
        """Start new groups with another one from now on. The old one stays: the groups that it started are well, and
        would die with it."""
        with self._lock:
            self._set_aside()

    def pid(self) -> int | None:
        """Of the one that this process alone has; None with a keeper, or before it has begun."""
        with self._lock:
            return self._process.pid if self._process is not None else None

    def stop(self) -> None:
        """End it, where this process alone has it, and with it every group that it started."""
        with self._lock:
            self._set_aside()
            for process, control in self._replaced:
                control.close()
                if process is not None:
                    process.kill()
                    process.wait()
            self._replaced.clear()

    def _ensure(self) -> socket.socket:
        if self._control is not None and _is_open(self._control):
            return self._control
        self._drop()
        self._waiting.clear()
        if self._keeper is None:
            self._control = self._start_own()
        else:
            self._control = self._meet(self._keeper) or self._start_kept(self._keeper)
        return self._control

    def _start_own(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = _launch(theirs, os.getpid(), "own")
        return ours

    def _meet(self, keeper: Keeper) -> socket.socket | None:
        """Connect to the one that an earlier web process started; None if there is none that answers. One that is
        stopped, or of another version of the code, ends by itself once nobody asks it for anything."""
        connection = _connect(keeper.address)
        if connection is None:
            return None
        try:
            connection.settimeout(_HELLO_TIMEOUT_S)
            hello, _ = messages.receive(connection)
            if hello["code"] == keeper.code:
                connection.settimeout(None)
                self._waiting = set(hello["waiting"])
                return connection
        except (OSError, ValueError):
            pass
        connection.close()
        return None

    def _start_kept(self, keeper: Keeper) -> socket.socket:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # Under another name first: at the address there is always one that listens, or listened until it ended.
            place = f"{keeper.address}.{uuid.uuid4().hex[:8]}"
            listener.bind(place)
            listener.listen()
            os.replace(place, keeper.address)  # noqa: PTH105 - a socket's address, a string
            # It forks the fork server and ends, and so the keeper is the parent of that.
            with _launch(listener, keeper.pid, "kept") as launcher:
                try:
                    launcher.wait(_LAUNCH_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    launcher.kill()
        connection = _connect(keeper.address)
        if connection is None:
            raise ConnectionError("the fork server can't be started")
        return connection

    def _set_aside(self) -> None:
        if self._control is not None:
            self._replaced.append((self._process, self._control))
        self._process = self._control = None

    def _drop(self) -> None:
        """It ended, or must."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _launch(end: socket.socket, parent_pid: int, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "model_api.processes.model_side.main", str(end.fileno()), str(parent_pid), how],
        pass_fds=[end.fileno()],
        env=os.environ | _MODEL_PROCESS_ENV,
    )


def _connect(address: str) -> socket.socket | None:
    """None where nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_HELLO_TIMEOUT_S)  # the queue of one that takes nothing may be full
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    connection.settimeout(None)
    return connection


def _is_open(control: socket.socket) -> bool:
    with contextlib.suppress(BlockingIOError):
        try:
            return bool(control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except ConnectionError:
            return False
    return True
