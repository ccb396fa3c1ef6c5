"""Run one server at a time: start it, wait until it is ready, load it, end all its processes.

One at a time, and afresh in every round: nothing idle steals time or shares pages, start-up is measured as often as
load, and a lucky memory layout doesn't last for a whole run.
"""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.bodies import KINDS, Body
from benchmarks.contenders import Contender, Launch
from benchmarks.environments import BUILD, ROOT
from benchmarks.processes import MARK, PeakMemory, marked, wait_idle

START_TIMEOUT_S = 240
STOP_TIMEOUT_S = 20
IDLE_TIMEOUT_S = 3
ASK_TIMEOUT_S = 180
PROBES = 4


class ServerFailed(Exception):
    """It didn't start, or died; the message ends with its log."""


@dataclass
class Server:
    """A running server, or the place of one for contenders measured inside a process."""

    contender: Contender
    launch: Launch | None
    port: int
    mark: str
    alive_s: float = 0.0
    ready_s: float = 0.0
    memory: PeakMemory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = PeakMemory(lambda: marked(self.mark))

    @property
    def url(self) -> str:
        assert self.launch is not None
        return f"http://127.0.0.1:{self.port}{self.launch.dialect.path}"

    def bodies_file(self, kind: str) -> Path:
        """The bodies of `kind` as this server wants them, one JSON document a line."""
        assert self.launch is not None
        path = BUILD / "bodies" / f"{kind}{self.launch.dialect.path.replace('/', '-')}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(self.launch.dialect.encode(body) + b"\n" for body in KINDS[kind].bodies()))
        return path

    def ask(self, body: Body) -> list[float]:
        """The scores of one body. Raises ServerFailed for anything but a 200."""
        assert self.launch is not None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ASK_TIMEOUT_S)
        payload = self.launch.dialect.encode(body)
        connection.request("POST", self.launch.dialect.path, payload, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if answer.status != 200:
            raise ServerFailed(f"{self.contender.name} answered {answer.status}: {content[:300]!r}")
        return list(self.launch.dialect.scores(json.loads(content)))

    def settle(self) -> None:
        """Let what the last load left in the queue be finished: its callers are gone, but a server may not know.

        A few requests pass through the queue behind it, then the processes go idle; a server that polls never does, so
        that isn't insisted on.
        """
        for body in KINDS["short"].bodies()[:PROBES]:
            self.ask(body)
        wait_idle(self.mark, IDLE_TIMEOUT_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(contender: Contender) -> Iterator[Server]:
    """The server of `contender`, ready; every process of it is gone afterwards."""
    port, mark = free_port(), secrets.token_hex(8)
    if contender.launch is None:
        yield Server(contender, None, port, mark)
        return
    launch = contender.launch(port, contender.settings)
    log = BUILD / "logs" / f"{contender.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    server = Server(contender, launch, port, mark)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MODEL_API_", "OMP_"))}
    with log.open("wb") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            list(launch.command),
            cwd=ROOT,
            env={**clean, **launch.environment, MARK: mark},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with server.memory:
                server.alive_s = _wait_for(server, process, launch.alive_path, started, log)
                server.ready_s = _wait_for(server, process, launch.ready_path, started, log)
                yield server
        finally:
            _stop(process, mark)


def _wait_for(server: Server, process: subprocess.Popen[Any], path: str, started: float, log: Path) -> float:
    """Seconds from `started` to the first 200 on `path`."""
    while time.monotonic() < started + START_TIMEOUT_S:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.request("GET", path)
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return time.monotonic() - started
        if process.poll() is not None:
            break
        time.sleep(0.01)
    raise ServerFailed(f"{server.contender.name} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[Any], mark: str) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
