"""The web process's end of a loaded version: its leader and its lanes.

    web process ── fork server ── leader of minilm@1 ── lane, lane
                               └─ leader of minilm@2 ── lane, lane, encoding process

Every line is a socket pair; each end notices at once when the other dies. See model_side/ for the other ends.
"""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from model_api.processes import messages
from model_api.processes.encoding_process import EncodingProcess
from model_api.processes.lane import Lane, ProcessLane
from model_api.processes.spec import ENCODER_INDEX, LeaderSpec


class ProcessGroup:
    """A loaded (or loading) version: its leader and lanes.

    `on_event(group, event)` is called on the group's reader thread with every message of the leader, and last with
    {"event": "gone"}. Lanes come and go by themselves: the leader starts a dead one anew.
    """

    def __init__(
        self,
        control: socket.socket,
        spec: LeaderSpec,
        *,
        on_event: Callable[["ProcessGroup", Mapping[str, Any]], None],
        on_lane: Callable[[], None],
        name: str,
        long_running: bool = False,
        interruptible: bool = False,
    ) -> None:
        self.long_running = long_running
        self.interruptible = interruptible
        self.max_batch_tokens: int | None = spec.manifest.options.get("max_batch_tokens")
        self.n_lanes = spec.lanes
        self.encoder = EncodingProcess(kill=lambda: self._ask_to_kill(ENCODER_INDEX))
        self.began_at = self.heard_at = time.monotonic()  # started; the leader's last word
        self.exit_status: int | None = None  # of the leader, negative for a signal; known a moment before "gone"
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
        self._reader = threading.Thread(target=self._read, args=(spec,), name=f"group-{name}", daemon=True)
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

    def living_lanes(self) -> int:
        """How many haven't ended. Never waits."""
        with self._lock:
            lanes = [lane for lane in self._all.values() if lane.alive]
        ends = select.poll()
        for lane in lanes:
            with contextlib.suppress(ValueError):  # closed a moment ago
                ends.register(lane.fileno(), 0)  # an end is told without being asked for
        return len(lanes) - len(ends.poll(0))

    def is_stopped(self) -> bool:
        """Whether somebody stopped its leader (SIGSTOP): then it says nothing about what it loads."""
        with contextlib.suppress(OSError, IndexError):
            return Path(f"/proc/{self.leader_pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        return False

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
        self.encoder.close()
        # Where it couldn't be killed it is told. A socket that merely closes means that this process ended, and then a
        # leader waits for the next one. Shutdown also wakes our reader.
        with contextlib.suppress(OSError):
            messages.send_without_waiting(self._control, {"end": True})
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def join(self, timeout_s: float) -> None:
        self._reader.join(timeout_s)

    def _read(self, spec: LeaderSpec) -> None:
        """Reader thread: ends when the leader does. It also sends the order, which may be larger than a socket takes at
        once: nobody else waits for that."""
        try:
            messages.send(self._control, spec.to_message())
            while True:
                header, _ = messages.receive(self._control)
                self.heard_at = time.monotonic()
                if header["event"] == "alive":
                    continue
                if header["event"] == "ended":
                    self.exit_status = header["status"]
                    break
                if header["event"] == "lane":
                    self._add_lane(header)
                    continue
                if header["event"] == "again":  # another leader goes on: see model_side/shared_code.py
                    self._forget_leader()
                    messages.send(self._control, spec.to_message())
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
            self._forget_leader()
            self._control.close()
            self.encoder.close()
            self._on_event(self, {"event": "gone"})

    def _forget_leader(self) -> None:
        with self._lock:
            if self._leader is not None:
                os.close(self._leader)
            self._leader = self.leader_pid = None
            self.began_at = time.monotonic()

    def _add_lane(self, header: Mapping[str, Any]) -> None:
        _, fds, _, _ = socket.recv_fds(self._control, 1, 1)
        if header["index"] == ENCODER_INDEX:
            self.encoder.connect(socket.socket(fileno=fds[0]))
            return
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
            messages.send_without_waiting(self._control, {"kill_lane": index})
