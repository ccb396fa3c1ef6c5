"""A day of mixed traffic in a few minutes: every kind of request that users send, and those they shouldn't, in turn."""

import contextlib
import http.client
import json
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.rigs.api import Client
from tests.rigs.server import Server
from tests.rigs.threads import running

WORDS = ["the", "model", "of", "weights", "was", "published", "once", "and", "is", "rain", "tea", "cat", "dog"]


def text(n_words: int) -> str:
    return " ".join(random.choices(WORDS, k=n_words))


def leave_early(api: Server) -> None:
    """Half a request, and gone."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", api.port), timeout=5) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)


def big(n_bytes: int) -> str:
    return "x" * n_bytes


# Weight, and what is asked of a kept-alive connection.
KINDS: tuple[tuple[int, Callable[[Client], object]], ...] = (
    (30, lambda c: c.ask("POST", "/predict", {"model": "tiny", "inputs": text(12)})),
    (15, lambda c: c.ask("POST", "/sim", {"target": text(5), "texts": [text(9) for _ in range(20)]})),
    (5, lambda c: c.ask("POST", "/predict", {"model": "tiny", "inputs": [text(9) for _ in range(300)]})),
    (5, lambda c: c.ask("POST", "/score", {"targets": [text(30)], "predictions": [text(30)]})),
    (10, lambda c: c.ask("POST", "/predict", {"model": "tiny", "inputs": "the cat"})),  # cached
    (5, lambda c: c.ask("GET", "/models")),
    (5, lambda c: c.ask("GET", "/metrics")),
    (5, lambda c: c.ask("GET", f"/{text(1)}{random.random()}")),  # no such route
    (5, lambda c: c.ask("POST", "/predict", {"model": f"m{random.random()}", "inputs": text(3)})),
    (5, lambda c: c.ask("POST", "/predict", {"model": "tiny", "inputs": [text(2), ""], "more": 1})),
    (3, lambda c: c.ask("POST", "/predict", {"model": "tiny", "inputs": big(3_000_000)})),
    (2, lambda c: c.ask("POST", "/predict", json.loads("[" * 60 + "]" * 60))),
    (3, lambda c: c.ask("GET", "/docs", headers={"X-Request-Id": f"r{random.random()}"})),
)


@dataclass
class Day:
    """What was answered so far, by status; 0 for no answer."""

    statuses: Counter[int] = field(default_factory=Counter)


@contextmanager
def day(api: Server, callers: int = 6) -> Iterator[Day]:
    """Mixed traffic inside the block."""
    seen = Day()
    done = threading.Event()
    weights = [weight for weight, _ in KINDS]

    def call(number: int) -> None:
        client = api.client()
        while not done.is_set():
            if random.random() < 0.02:
                leave_early(api)
                client.close()
            try:
                answer = random.choices(KINDS, weights)[0][1](client)
                seen.statuses[getattr(answer, "status", 0)] += 1
            except (OSError, http.client.HTTPException):
                seen.statuses[0] += 1
        client.close()

    with running([partial(call, number) for number in range(callers)], done):
        yield seen
