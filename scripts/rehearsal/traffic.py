"""Steady requests from a client's machine, each on a connection of its own; every answer that isn't right is kept."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from scripts.rehearsal.network import inside


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(namespace: str, address: str, method: str, path: str, body: object = None, timeout_s: float = 60) -> Reply:
    """One request from that name space. Raises OSError or http.client.HTTPException if there is no answer."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with inside(namespace):
        connection = http.client.HTTPConnection(address, 80, timeout=timeout_s)
        try:
            connection.request(method, path, data, {"Content-Type": "application/json", "Connection": "close"})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())
        finally:
            connection.close()


@dataclass
class Traffic:
    """`with Traffic(...) as traffic:` keeps `callers` threads asking until the block ends."""

    namespace: str
    address: str
    right: Callable[[Reply], bool]
    body: object
    path: str = "/sim"
    callers: int = 4
    pause_s: float = 0.02
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    served_by: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._ask_for_ever, daemon=True) for _ in range(self.callers)]

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def _ask_for_ever(self) -> None:
        while not self.stopping.wait(self.pause_s):
            began = time.monotonic()
            try:
                reply = request(self.namespace, self.address, "POST", self.path, self.body)
                failure = "" if self.right(reply) else f"{reply.status} {reply.body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
            with self.lock:
                self.answered += 1
                if failure:
                    self.failures.append(f"after {time.monotonic() - began:.2f} s: {failure}")
