"""The real application under real gunicorn, as one test's own server."""

import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from tests.waiting import wait_for

PROJECT = Path(__file__).resolve().parents[2]


class Server:
    """gunicorn with the project's own settings, on a free port. Use it as a context manager: it leaves nothing behind."""

    def __init__(self, folder: Path, efs_root: Path, env: Mapping[str, str] | None = None) -> None:
        """`folder` takes the log and, unless `env` says otherwise, the local store."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "server.log"
        self.mark = f"test-{uuid.uuid4().hex}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MODEL_API_")},
            "MODEL_API_EFS_ROOT": str(efs_root),
            "MODEL_API_LOCAL_STORE": str(folder / "store"),
            "MODEL_API_POLL_S": "0.2",
            "MODEL_API_INSTANCE": self.mark,
            "PORT": str(self.port),
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, *, ready: bool = True) -> "Server":
        """Start it and wait for liveness, and for readiness too unless told not to."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"],
                cwd=PROJECT,
                env=self.env,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self.is_up("/healthz") or self._fail_if_ended(), within_s=60)
        if ready:
            wait_for(lambda: self.is_up("/readyz") or self._fail_if_ended(), within_s=120)
        return self

    def _fail_if_ended(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_path.read_text()[-4000:]
        return False

    def is_up(self, path: str) -> bool:
        try:
            return requests.get(self.url + path, timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **kwargs)

    def post(self, path: str, body: Any, **kwargs: Any) -> requests.Response:
        return requests.post(self.url + path, json=body, timeout=60, **kwargs)

    def model(self, name: str) -> dict[str, Any]:
        found = self.get(f"/models/{name}")
        return dict(found.json()) if found.status_code == 200 else {}

    def log_lines(self, message: str | None = None) -> list[dict[str, Any]]:
        """The log's JSON lines, those with `message` if given."""
        lines = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if message is None or line["message"] == message]

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """End everything at once, by pid."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process is not None:
            self.process.wait(10)
        wait_for(lambda: not self.pids(), within_s=10)

    def pids(self) -> list[int]:
        """Every process of this server that lives, whoever its parent is: found by a mark in the environment."""
        wanted = f"MODEL_API_INSTANCE={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    if wanted in (folder / "environ").read_bytes().split(b"\0"):
                        found.append(int(folder.name))
                except OSError:
                    continue
        return found

    def children_of(self, pid: int) -> list[int]:
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def web_pid(self) -> int:
        """gunicorn's worker."""
        assert self.process is not None
        (pid,) = self.children_of(self.process.pid)
        return pid

    def fork_server_pid(self) -> int:
        (pid,) = [p for p in self.pids() if b"model_api.model_process" in command_line(p) and p in self._tasks_children()]
        return pid

    def _tasks_children(self) -> list[int]:
        """Children of any thread of the web process."""
        web = self.web_pid()
        found: list[int] = []
        for task in Path(f"/proc/{web}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
        return found

    def leader_pids(self) -> list[int]:
        return self.children_of(self.fork_server_pid())

    def lane_pids(self) -> list[int]:
        return [lane for leader in self.leader_pids() for lane in self.children_of(leader)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
