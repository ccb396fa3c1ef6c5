"""Large requests are worked on one at a time in the web process.

What parses, tokenizes or puts together megabytes holds the interpreter's lock for tens of milliseconds at a stretch,
and takes many times its bytes while it lasts: a hundred at once would leave health checks waiting, and no memory.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from model_api.errors import DeadlineExceeded
from model_api.serving.turnstile import leave_early

LARGE_BYTES = 1 << 18

_one_at_a_time = threading.Lock()


@contextmanager
def heavy_work(n_bytes: int, deadline: float) -> Iterator[None]:
    """Around work on `n_bytes`: alone where that is much. Any thread; raises DeadlineExceeded rather than wait past
    `deadline`, in seconds of time.monotonic()."""
    if n_bytes < LARGE_BYTES:
        yield
        return
    if not _one_at_a_time.acquire(blocking=False):
        leave_early()
        if not _one_at_a_time.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise DeadlineExceeded("other large requests took all of this one's time")
    try:
        yield
    finally:
        _one_at_a_time.release()
