"""The real application under the real gunicorn, as `scripts/serve` and Beanstalk start it, for tests from outside.

    with server(tmp_path, MODEL_API_EFS_ROOT=efs.root) as api:
        api.wait_until_ready()
        api.post("/predict", {"model": "m", "inputs": "text"})

At the end it is stopped as Beanstalk does it (SIGTERM), and no process of it may be left.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.rigs.api import Api
from tests.rigs.free_port import free_port
from tests.rigs.polling import wait_until
from tests.rigs.project import ROOT

STOP_TIMEOUT_S = 60.0


class Server(Api):
    """One instance of the application."""

    def __init__(
        self, folder: Path, settings: Mapping[str, object], project: Path = ROOT, launcher: Sequence[str] = ()
    ) -> None:
        """`project` is the checkout that runs, `launcher` a command that runs its arguments."""
        self._project = project
        self._launcher = launcher
        folder.mkdir(parents=True, exist_ok=True)
        self.instance = f"test-{uuid.uuid4().hex[:12]}"  # also how its processes are found, whoever their parent is
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "server.log"
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MODEL_API_")}
        defaults = {
            "MODEL_API_LOCAL_STORE": folder / "store",
            "MODEL_API_INSTANCE": self.instance,
            "MODEL_API_POLL_S": 0.2,
            "MODEL_API_PIN_S": 0,  # what is replaced is unloaded at once, unless a test is about pinned callers
            "MODEL_API_CACHE": "off",  # what is asked twice is computed twice, unless a test is about the cache
            "PORT": self.port,
        }
        self._environment = kept | {key: str(value) for key, value in {**defaults, **settings}.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is alive; which it is before any model is loaded."""
        assert self._process is None, "is running"
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._launcher, sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"],
                cwd=self._project,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.wait_for_status("/healthz", 200)

    def pids(self) -> list[int]:
        """All its processes, web and model ones, whoever their parents are by now."""
        mark = f"MODEL_API_INSTANCE={self.instance}".encode()
        return [pid for pid in _all_pids() if mark in _read(pid, "environ").split(b"\0")]

    def pids_by_role(self) -> dict[str, list[int]]:
        """arbiter, web, fork_server, leader, lane. The arbiter has web processes and fork servers as children; the rest
        is as nested as it is started."""
        assert self._process is not None
        pids = self.pids()

        def children(parents: Sequence[int]) -> list[int]:
            return [pid for pid in pids if _parent(pid) in parents and pid not in parents]

        arbiter = [self._process.pid]
        fork_servers = [pid for pid in children(arbiter) if b"model_side.main" in _read(pid, "cmdline")]
        web = [pid for pid in children(arbiter) if pid not in fork_servers]
        leaders = children(fork_servers)
        lanes = children(leaders)
        return {"arbiter": arbiter, "web": web, "fork_server": fork_servers, "leader": leaders, "lane": lanes}

    def memory_bytes(self) -> int:
        """Proportional set size of all its processes."""
        return sum(map(_pss_bytes, self.pids()))

    def memory_by_role(self) -> dict[str, int]:
        """Proportional set sizes, by the roles of `pids_by_role`."""
        return {role: sum(map(_pss_bytes, pids)) for role, pids in self.pids_by_role().items()}

    def log_records(self) -> list[dict[str, Any]]:
        """The log's JSON lines so far."""
        records = []
        for line in self.log_path.read_text().splitlines():
            with suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
        return records

    def log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if '"model_api.requests"' not in line][-40:])

    def expect_running(self) -> None:
        assert self._process is not None, "was stopped"
        assert self._process.poll() is None, f"the server ended:\n{self.log_tail()}"

    def _dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 5.0)

    def stop(self) -> None:
        """SIGTERM, as Beanstalk stops it. Fails if it doesn't end in time, or leaves a process."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
            self._expect_no_orphan()
        finally:
            self._kill_all()

    def kill(self) -> None:
        """SIGKILL for gunicorn's arbiter and worker, as an OOM killer would. Fails if a model process survives them."""
        roles = self.pids_by_role()
        for pid in [*roles["arbiter"], *roles["web"]]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process is not None
        try:
            self._process.wait(STOP_TIMEOUT_S)
            self._expect_no_orphan()
        finally:
            self._kill_all()

    def close(self) -> None:
        if self._process is not None:
            self.stop()

    def _expect_no_orphan(self) -> None:
        wait_until(lambda: not self.pids(), within_s=10, what="an end of all its processes")

    def _kill_all(self) -> None:
        for pid in self.pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None


@contextmanager
def server(folder: Path, **settings: object) -> Iterator[Server]:
    """Start it with `settings` (environment variables) and wait for /healthz. Log and local store lie in `folder`."""
    api = Server(folder, settings)
    try:
        api.start()
        yield api
    except BaseException:
        api._kill_all()
        raise
    api.close()


def model_api(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run the authors' command line; its standard output. Fails with all it said if it exits other than 0."""
    command = [sys.executable, "-m", "model_api", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{command[2:]} exited {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _all_pids() -> Sequence[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _read(pid: int, file: str) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/{file}").read_bytes()
    return b""


def _pss_bytes(pid: int) -> int:
    rollup = _read(pid, "smaps_rollup").decode()
    return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0
