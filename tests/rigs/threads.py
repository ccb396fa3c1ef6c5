"""Threads that go on beside a test."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def running(acts: list[Callable[[], None]], done: threading.Event) -> Iterator[None]:
    """Each of `acts` on a thread of its own inside the block; then `done` is set, which ends them, and they are waited
    for."""
    threads = [threading.Thread(target=act) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
