"""How many requests may be worked on at a time in this process's interpreter, not counting those that wait.

A hundred threads that all want the interpreter's lock get it in turns of milliseconds, and a health check waits for all
of them. So few run; a thread that is about to wait (for a lane, for another's computation) lets the next one in. Coming
back from its wait it needs no turn: what woke it, a batch that is done, wakes few at a time.
"""

import threading

PATIENCE_S = 1.0

_inside = threading.local()


class Turnstile:
    """Lets `n` threads in at a time, in order of arrival. Who waited long goes in all the same: then those inside wait
    for something without saying so."""

    def __init__(self, n: int) -> None:
        self._free = threading.Semaphore(n)

    def enter(self) -> None:
        """Waits for a turn, up to PATIENCE_S. Not again before `leave`."""
        if self._free.acquire(timeout=PATIENCE_S):
            _inside.turnstile = self

    def leave(self) -> None:
        """The end of what `enter` began; may have come early."""
        leave_early()


def leave_early() -> None:
    """The calling thread is about to wait for something. Of no effect for one that isn't inside."""
    turnstile = getattr(_inside, "turnstile", None)
    if turnstile is not None:
        _inside.turnstile = None
        turnstile._free.release()
