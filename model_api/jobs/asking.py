"""Asking a model within a job: what is full or slow is asked again, for as long as somebody wants the answer."""

import time
from collections.abc import Callable
from typing import TypeVar

from model_api.errors import CallerLeft, DeadlineExceeded, QueueFull
from model_api.jobs.files.predictors import CALLER
from model_api.jobs.runner import Run
from model_api.serving.calls import CallContext

Found = TypeVar("Found")
QUEUE_FULL_S = 0.5


def ask_patiently(run: Run, call: Callable[[CallContext], Found], *, call_s: float, all_s: float) -> Found:
    """What `call` gives. `call_s` bounds one call, `all_s` every asking again. Raises what it does, and CallerLeft."""
    give_up = time.monotonic() + all_s
    while True:
        if run.has_left():
            raise CallerLeft("nobody waits for this job")
        deadline = min(give_up, time.monotonic() + call_s)
        try:
            return call(CallContext(deadline, CALLER, CALLER, run.has_left, guard=run.guard))
        except DeadlineExceeded:
            if time.monotonic() >= give_up:
                raise
        except QueueFull:
            run.wait(QUEUE_FULL_S)
            if time.monotonic() >= give_up:
                raise
