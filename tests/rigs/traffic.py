"""Callers who ask a server without pause, and keep what they were told."""

import http.client
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.rigs.api import Api, Client
from tests.rigs.polling import wait_until
from tests.rigs.threads import running


@dataclass(frozen=True)
class Told:
    """One request. Times are time.monotonic seconds; status 0: no answer at all, `error` says why."""

    sent_at: float
    told_at: float
    status: int
    text: str
    digest: str = ""
    version: str = ""
    vector: tuple[float, ...] = ()
    error: str = ""

    @property
    def latency_ms(self) -> float:
        return (self.told_at - self.sent_at) * 1000


@dataclass
class Traffic:
    """What the callers were told so far, in order of the answers' arrival."""

    told: list[Told] = field(default_factory=list)

    def failures(self) -> list[Told]:
        return [one for one in self.told if one.status != 200]

    def between(self, start: float, end: float) -> list[Told]:
        """Those sent and answered in that time."""
        return [one for one in self.told if start <= one.sent_at and one.told_at <= end]

    def wait_for(self, answers: int) -> None:
        """Until so many more have come."""
        wanted = len(self.told) + answers
        wait_until(lambda: len(self.told) >= wanted, within_s=60, what=f"{answers} more answers")


def latency_report(told: Sequence[Told]) -> str:
    """E.g. "812 answers, p50 4.1 ms, p99 9.0 ms, longest 12.3 ms"."""
    latencies = sorted(one.latency_ms for one in told)
    if len(latencies) < 2:
        return f"{len(latencies)} answers"
    p99 = statistics.quantiles(latencies, n=100, method="inclusive")[98]
    return (
        f"{len(latencies)} answers, p50 {statistics.median(latencies):.1f} ms, p99 {p99:.1f} ms,"
        f" longest {latencies[-1]:.1f} ms"
    )


@contextmanager
def traffic(server: Api, model: str, *, callers: int = 2, pause_s: float = 0.01) -> Iterator[Traffic]:
    """`callers` threads ask `model` for the vector of one of two texts, `pause_s` after each answer, until the end."""
    seen = Traffic()
    done = threading.Event()

    def call(number: int) -> None:
        client = server.client()
        text = f"the cat and {'tea' if number % 2 else 'a dog in the rain'}"
        while not done.wait(pause_s):
            seen.told.append(_ask(client, model, text))
        client.close()

    with running([partial(call, number) for number in range(callers)], done):
        yield seen


def _ask(client: Client, model: str, text: str) -> Told:
    sent_at = time.monotonic()
    try:
        answer = client.ask("POST", "/predict", {"model": model, "inputs": text})
    except (OSError, http.client.HTTPException) as error:
        return Told(sent_at, time.monotonic(), 0, text, error=repr(error))
    told_at = time.monotonic()
    if answer.status != 200:
        return Told(sent_at, told_at, answer.status, text, error=answer.body.decode(errors="replace"))
    body = answer.json()
    assert answer.headers["x-model-digest"] == body["digest"]
    return Told(sent_at, told_at, 200, text, body["digest"], body["version"], tuple(body["predictions"][0]))
