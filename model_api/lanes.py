"""The web process's end of the model processes: the fork server, a group per loaded version, a lane per core.

    web process ── fork server ── leader of minilm@1 ── lane, lane
                               └─ leader of minilm@2 ── lane, lane

Every arrow is a socket pair; each end notices at once when the other dies. See model_process.py for the other ends.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from model_api import messages
from model_api.batching import Lane, LaneGone
from model_api.errors import ForwardFailed
from model_api.tasks import Array

log = logging.getLogger(__name__)

LOOK_FOR_CALLERS_EVERY_S = 0.25
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

    def start(self) -> None:
        """Start it in the background: importing torch takes a second or two.

        Called on a thread that lives as long as the web process: the kernel ends the fork server when the thread that
        started it ends.
        """
        with self._lock:
            self._ensure()

    def spawn(self, spec: Mapping[str, Any]) -> socket.socket:
        """Fork a leader for `spec` (see model_process.lead); our end of its control socket. Same thread as start."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            for attempt in (1, 2):
                control = self._ensure()
                try:
                    messages.send(control, spec)
                    socket.send_fds(control, [b"F"], [theirs.fileno()])
                    return ours
                except OSError:
                    if attempt == 2:
                        ours.close()
                        raise
                    self._kill()
        raise AssertionError("unreachable")

    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def stop(self) -> None:
        with self._lock:
            self._kill()

    def _ensure(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._kill()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model_api.model_process", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                env=os.environ | _MODEL_PROCESS_ENV,
            )
        self._control = ours
        return ours

    def _kill(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


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
        """See batching.Lane."""
        self._timeout_s = timeout_s
        self._abandoned = abandoned
        with self._gone_if_broken():
            self._connection.settimeout(timeout_s)
            messages.send(self._connection, {"parameters": parameters}, arrays)

    def outputs(self) -> Sequence[Array]:
        """See batching.Lane. A lane that isn't done after `timeout_s`, or that was abandoned, is killed."""
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

    def close(self) -> None:
        self.alive = False
        self._connection.close()


class ProcessGroup:
    """A loaded (or loading) version: its leader and lanes.

    `on_event(group, event)` is called on the group's reader thread with every message of the leader, and last with
    {"event": "gone"}. Lanes come and go by themselves: the leader starts a dead one anew.
    """

    def __init__(
        self,
        control: socket.socket,
        *,
        on_event: Callable[["ProcessGroup", Mapping[str, Any]], None],
        on_lane: Callable[[], None],
        name: str,
        long_running: bool = False,
    ) -> None:
        self.long_running = long_running
        self.seconds_per_token = 1e-4  # until its first batches tell
        self._control = control
        self._on_event = on_event
        self._on_lane = on_lane
        self._lock = threading.Lock()
        self._idle: list[ProcessLane] = []
        self._all: dict[int, ProcessLane] = {}
        self._open = True
        self.leader_pid: int | None = None
        self._leader: int | None = None  # a pidfd: unlike a pid it can't come to mean another process
        self._reader = threading.Thread(target=self._read, name=f"group-{name}", daemon=True)
        self._reader.start()

    def is_open(self) -> bool:
        return self._open

    def idle_lanes(self) -> int:
        return len(self._idle)

    def take_lane(self) -> ProcessLane | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def put_lane(self, lane: Lane) -> None:
        assert isinstance(lane, ProcessLane)
        with self._lock:
            if self._open and lane.alive and self._all.get(lane.index) is lane:
                self._idle.append(lane)
            else:
                lane.close()

    def pids(self) -> list[int]:
        with self._lock:
            lanes = [lane.pid for lane in self._all.values()]
        return [*([self.leader_pid] if self.leader_pid else []), *lanes]

    def close(self) -> None:
        """End the group: its leader and lanes die, and all their memory returns. Doesn't wait.

        A leader that hangs in a read of the shared file system notices no closed socket, so it is killed.
        """
        with self._lock:
            self._open = False
            idle, self._idle = self._idle, []
            if self._leader is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._leader, signal.SIGKILL)
        for lane in idle:
            lane.close()
        # Elsewhere than on Linux the leader exits because its socket closes; shutdown also wakes our reader.
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> None:
        self._reader.join(timeout_s)

    def _read(self) -> None:
        """Reader thread: ends when the leader does."""
        try:
            while True:
                header, _ = messages.receive(self._control)
                if header["event"] == "lane":
                    self._add_lane(header)
                    continue
                if header["event"] == "started":
                    self.leader_pid = header["pid"]
                    with contextlib.suppress(OSError, AttributeError):  # it is gone already; or not Linux
                        self._leader = os.pidfd_open(header["pid"])
                self._on_event(self, header)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open = False
                if self._leader is not None:
                    os.close(self._leader)
                    self._leader = None
            self._control.close()
            self._on_event(self, {"event": "gone"})

    def _add_lane(self, header: Mapping[str, Any]) -> None:
        _, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        lane = ProcessLane(header["index"], header["pid"], socket.socket(fileno=fds[0]), self._ask_to_kill)
        with self._lock:
            if not self._open:
                lane.close()
                return
            dead = self._all.get(lane.index)
            if dead is not None and dead in self._idle:
                self._idle.remove(dead)
            self._all[lane.index] = lane
            self._idle.append(lane)
        self._on_lane()

    def _ask_to_kill(self, index: int) -> None:
        """The leader kills its own child: it alone can't mistake another process for it."""
        with contextlib.suppress(OSError):
            messages.send(self._control, {"kill_lane": index})
