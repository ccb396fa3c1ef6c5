"""A web process's end of model processes, in a process that can be killed; the test is its keeper."""

import json
import os
import queue
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model_api.processes.fork_server import ForkServer
from model_api.processes.group import ProcessGroup
from model_api.processes.keeping import Keeper
from model_api.processes.spec import LeaderSpec
from tests.rigs.project import ROOT


class WebEnd:
    """A context manager; leaving it kills the process."""

    def __init__(self, keeper: Keeper) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.rigs.web_end", str(keeper.pid), str(keeper.folder), keeper.code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.waiting: list[str] = self._read()

    def __enter__(self) -> "WebEnd":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            assert end is not None
            end.close()

    def load(self, order: LeaderSpec, key: str = "") -> tuple[int, list[str]]:
        """The leader's pid, and what it said until it was ready, failed or gone. `key`: if it isn't the order's own."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([key or order.key(), order.to_message()]) + "\n")
        self._process.stdin.flush()
        pid, said = self._read()
        return pid, said

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def _load(fork_server: ForkServer, key: str, order: LeaderSpec, groups: list[ProcessGroup]) -> list[Any]:
    events: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    group = ProcessGroup(
        fork_server.spawn(key),
        order,
        on_event=lambda group, event: events.put(event),
        on_lane=lambda: None,
        name="tiny",
    )
    groups.append(group)
    pid: int | None = None
    said: list[str] = []
    while not said or said[-1] not in ("ready", "failed", "gone"):
        event = events.get(timeout=120)
        pid = event.get("pid", pid)
        said.append(event.get("stage", event["event"]))
    return [pid, said]


def main() -> None:
    fork_server = ForkServer(Keeper(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
    fork_server.meet()
    print(json.dumps(sorted(fork_server.waiting())), flush=True)
    groups: list[ProcessGroup] = []
    for line in sys.stdin:
        key, message = json.loads(line)
        print(json.dumps(_load(fork_server, key, LeaderSpec.from_message(message), groups)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
