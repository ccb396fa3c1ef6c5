"""What the batcher holds: requests in the queue with their outcomes, and batches with the lanes that run them."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import orjson

from model_api.errors import ForwardFailed, ModelApiError
from model_api.processes.lane import Lane, LaneGone, LaneGroup, LaneLeft
from model_api.serving.scheduling import QueueEntry
from model_api.tasks.contract import Array

log = logging.getLogger(__name__)

LONG_BATCH_TOKENS = 5120  # of a long-running batch, input and new tokens: eight articles and their summaries


@dataclass(frozen=True)
class Outputs:
    """A request's outcome: one array per row, and what became of it on the way."""

    arrays: Sequence[Array]
    queue_ms: float
    forward_ms: float
    batch_size: int


def _locked() -> threading.Lock:
    """A tenth of an Event's or a Future's cost, where one thread tells another one thing."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False, kw_only=True)
class PendingRequest(QueueEntry):
    """An entry with its payload and its outcome."""

    arrays: Sequence[Array]
    forward_parameters: Mapping[str, Any]
    deadline: float  # time.monotonic seconds
    has_left: Callable[[], bool]
    outcome: Outputs | ModelApiError | None = None
    ended: threading.Lock = field(default_factory=_locked)  # let go once, for the caller who waits for it
    results: dict[int, Array] = field(default_factory=dict)
    crashes: int = 0
    queued_at: float = field(default_factory=time.monotonic)
    started_at: float = 0.0
    batch_size: int = 0
    parts: SimpleQueue[str | None] | None = None  # of an answer that is told as it grows; None at its end
    told_chars: int = 0

    def wake(self) -> None:
        """Let the caller know that there is an outcome. Once."""
        self.ended.release()
        if self.parts is not None:
            self.parts.put(None)

    def take_part(self, text: str, begin: int) -> None:
        """A piece of its answer, which may have been told already by a forward before."""
        new = text[max(0, self.told_chars - begin) :]
        if new and self.parts is not None:
            self.told_chars += len(new)
            self.parts.put(new)


def pending_request(
    lanes: LaneGroup,
    arrays: Sequence[Array],
    costs: Sequence[int],
    parameters: Mapping[str, Any],
    *,
    caller: str,
    deadline: float,
    has_left: Callable[[], bool],
    parts: SimpleQueue[str | None] | None = None,
) -> PendingRequest:
    """Rows for `lanes`, as their kind of batch wants them."""
    most = LONG_BATCH_TOKENS if lanes.long_running else None
    return PendingRequest(
        group=lanes,
        parameters=orjson.dumps(dict(parameters), option=orjson.OPT_SORT_KEYS),
        costs=costs,
        caller=caller,
        weight=lanes.seconds_per_token,
        arrays=arrays,
        forward_parameters=parameters,
        deadline=deadline,
        has_left=has_left,
        max_batch_tokens=1 if lanes.interruptible else lanes.max_batch_tokens or most,  # 1: a row at a time
        parts=parts,
    )


@dataclass
class RunningBatch:
    """A batch with the lane that runs it: for every request the rows that are in it."""

    parts: Sequence[tuple[PendingRequest, Sequence[int]]]
    group: LaneGroup
    lane: Lane
    started_at: float
    failure: ForwardFailed | LaneGone | LaneLeft | None = None

    @property
    def n_rows(self) -> int:
        return sum(len(rows) for _, rows in self.parts)


@contextlib.contextmanager
def failures_of(work: RunningBatch) -> Iterator[None]:
    """Note what goes wrong with a batch; its requests must hear of it, and the runner's thread must live."""
    try:
        yield
    except (ForwardFailed, LaneGone, LaneLeft) as error:
        work.failure = error
    except Exception:  # our own mistake
        log.exception("a batch failed outside of the model")
        work.failure = ForwardFailed("the batch failed")


def abandoned(parts: Sequence[tuple[PendingRequest, Sequence[int]]]) -> Callable[[], bool]:
    return lambda: all(entry.outcome is not None or entry.has_left() for entry, _ in parts)
