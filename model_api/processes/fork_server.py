"""The web process's end of the fork server, which starts process groups."""

import array
import os
import socket
import subprocess
import sys
import threading

_MODEL_PROCESS_ENV = {
    # More threads per lane would fight over the cores; and fork is safe only while its parent ran on one thread.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Keep a batch's buffers for the next batch: without, every forward faults in its pages anew (measured: 2 %).
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}


class ForkServer:
    """Starts process groups. It has imported torch once, so that a group starts in milliseconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._replaced: list[tuple[subprocess.Popen[bytes], socket.socket]] = []

    def start(self) -> None:
        """Start it in the background: importing torch takes a second or two.

        Called on a thread that lives as long as the web process: the kernel ends the fork server when the thread that
        started it ends.
        """
        with self._lock:
            self._ensure()

    def spawn(self) -> socket.socket:
        """Have a leader forked; our end of its control socket, over which it waits for its order. Never waits for the
        fork server: one that takes nothing any more is replaced. Same thread as start. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for attempt in (1, 2):
                control = self._ensure()
                try:
                    fds = array.array("i", [theirs.fileno()])
                    # Not socket.send_fds, which drops the flag.
                    control.sendmsg([b"F"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], socket.MSG_DONTWAIT)
                    return ours
                except OSError as error:
                    if attempt == 2:
                        ours.close()
                        raise
                    if isinstance(error, BlockingIOError):
                        self._set_aside()
                    else:
                        self._kill()
        raise AssertionError("unreachable")

    def replace(self) -> None:
        """Start new groups with another one from now on. The old one stays: the groups that it started are well, and
        would die with it."""
        with self._lock:
            self._set_aside()

    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def stop(self) -> None:
        with self._lock:
            self._kill()
            for process, control in self._replaced:
                control.close()
                process.kill()
                process.wait()

    def _ensure(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._kill()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model_api.processes.model_side.main", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=os.environ | _MODEL_PROCESS_ENV,
            )
        self._control = ours
        return ours

    def _set_aside(self) -> None:
        if self._process is not None and self._control is not None:
            self._replaced.append((self._process, self._control))
        self._process = self._control = None

    def _kill(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
