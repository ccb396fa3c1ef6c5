"""The process that scores texts, as a group of one lane: its rows wait in the same queue as everybody's, and take turns
with them.

Scoring is pure Python and would hold the web process's interpreter. The process starts with the first request, is
killed when a batch isn't done in time, and is started anew then.
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import orjson

from model_api.processes import messages
from model_api.processes.lane import Lane, ProcessLane
from model_api.tasks.contract import Array

log = logging.getLogger(__name__)

RESTART_AT_MOST_EVERY_S = 1.0
START_TIMEOUT_S = 60.0


def to_row(target: str, prediction: str) -> Array:
    """A pair as the process takes it. Raises ValueError for a lone surrogate."""
    return np.frombuffer(orjson.dumps([target, prediction]), np.uint8)


def from_row(row: Array) -> dict[str, float]:
    """The scores that the process gave for a pair."""
    scores: dict[str, float] = orjson.loads(row.tobytes())
    return scores


def scored_row(row: Array, score: Callable[[str, str], dict[str, float]]) -> Array:
    """In the process: from a pair to its scores."""
    return np.frombuffer(orjson.dumps(score(*orjson.loads(row.tobytes()))), np.uint8)


class Scorer:
    """A LaneGroup. Its process lives on a thread of its own, which starts it, waits for its end and starts it anew."""

    long_running = interruptible = False
    max_batch_tokens: int | None = None
    seconds_per_token = 1e-4  # text_scores.UNIT_US

    def __init__(self, on_lane: Callable[[], None]) -> None:
        """`on_lane` is called on the scorer's thread when the process can take work."""
        self._on_lane = on_lane
        self._lock = threading.Lock()
        self._idle: list[ProcessLane] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    def ensure_started(self) -> None:
        """Start the process if this is the first that is heard of scoring. Any thread; doesn't wait."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep_alive, name="scorer", daemon=True)
                self._thread.start()

    def is_open(self) -> bool:
        return not self._ended.is_set()

    def idle_lanes(self) -> int:
        return len(self._idle)

    def take_lane(self) -> ProcessLane | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def put_lane(self, lane: Lane) -> None:
        assert isinstance(lane, ProcessLane)
        with self._lock:
            if lane.alive and self.is_open():
                self._idle.append(lane)
            else:
                lane.close()
                self._kill(lane.pid)

    def stop(self) -> None:
        """End the process and the thread."""
        self._ended.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _kill(self, pid: int) -> None:
        process = self._process
        if process is not None and process.pid == pid:
            process.kill()

    def _keep_alive(self) -> None:
        while not self._ended.is_set():
            try:
                process = self._start()
            except OSError as error:
                log.error("the scorer can't be started", extra={"fields": {"error": str(error)}})
            else:
                self._on_lane()
                status = process.wait()
                with self._lock:
                    for lane in self._idle:
                        lane.close()
                    self._idle.clear()
                if not self._ended.is_set():
                    log.warning("the scorer ended", extra={"fields": {"status": status}})
            self._ended.wait(RESTART_AT_MOST_EVERY_S)

    def _start(self) -> subprocess.Popen[bytes]:
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as on_failure:
            on_failure.callback(ours.close)
            command = [sys.executable, "-m", "model_api.serving.scorer_process"]
            with self._lock:
                process = subprocess.Popen(
                    [*command, str(theirs.fileno()), str(os.getpid())], pass_fds=[theirs.fileno()]
                )
                self._process = process
                if self._ended.is_set():
                    process.kill()
            with contextlib.suppress(OSError, ValueError):  # it ended, or was killed
                ours.settimeout(START_TIMEOUT_S)
                messages.receive(ours)  # its libraries are imported
                on_failure.pop_all()
                with self._lock:
                    self._idle.append(ProcessLane(0, process.pid, ours, lambda _: self._kill(process.pid)))
                return process
        process.kill()
        return process
