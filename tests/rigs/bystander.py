"""An honest caller and a health check, while somebody else attacks: what they were told, how soon, and what it cost."""

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.rigs.server import Server
from tests.rigs.threads import running

EVERY_S = 0.05


@dataclass
class Seen:
    """Health by seconds, each on a new connection as balancers ask; the honest caller's answers by status."""

    health_s: list[float] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)  # 0: no answer at all
    answer_s: list[float] = field(default_factory=list)
    peak_bytes: int = 0  # resident, of the web process

    def health_at(self, share: float) -> float:
        """E.g. 0.99 for p99, in seconds."""
        return at(self.health_s, share)


def at(seconds: Sequence[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


@contextmanager
def bystander(api: Server, model: str = "tiny") -> Iterator[Seen]:
    """Watch inside the block."""
    seen = Seen()
    done = threading.Event()
    (web,) = api.pids_by_role()["web"]

    def ask_health() -> None:
        while not done.wait(EVERY_S):
            began = time.monotonic()
            try:
                status = api.get("/healthz").status
                if status != 200:
                    seen.unhealthy.append(str(status))
            except (OSError, http.client.HTTPException) as error:
                seen.unhealthy.append(type(error).__name__)
            seen.health_s.append(time.monotonic() - began)

    def ask_model() -> None:
        number = 0
        while not done.wait(EVERY_S):
            number += 1
            began = time.monotonic()
            try:
                status = api.post("/predict", {"model": model, "inputs": f"the cat and the dog {number}"}).status
            except (OSError, http.client.HTTPException):
                status = 0
            seen.answers[status] += 1
            seen.answer_s.append(time.monotonic() - began)

    def watch_memory() -> None:
        while not done.wait(EVERY_S):
            with contextlib.suppress(OSError):
                seen.peak_bytes = max(seen.peak_bytes, resident_bytes(web))

    with running([ask_health, ask_model, watch_memory], done):
        yield seen


def resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
