"""Code that oneDNN compiles, once per shape and for all leaders: the fork server warms a shape before it forks the
leaders of its models. A leader that has a verified copy knows its shape; if that isn't warm yet it asks, ends, and is
forked again.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import resource
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from model_api.processes.model_side.forking import fork_child
from model_api.processes.model_side.limits import allocated_bytes

if TYPE_CHECKING:
    from model_api.compute.encoder_shape import EncoderShape

log = logging.getLogger(__name__)

AGAIN = 4  # exit status of a leader that asked
# Each keeps some 110 MB for as long as the fork server lives; models of further shapes compile for themselves.
MAX_SHAPES = 4
# What takes the fork server longer than a second or two, its models do for themselves: it can't fork meanwhile.
_MOST_LAYER_WEIGHTS, _MOST_TOKENS = 16 * 10**6, 1024
_TRIAL_CPU_S, _TRIAL_BYTES = 20, 2**30

Ask = Callable[["EncoderShape"], None]


class SharedCode:
    """In the fork server; `ask` and `leave` are for the leaders that it forks."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._told = b""
        self._tried: set[EncoderShape] = set()

    def ask(self, shape: "EncoderShape") -> None:
        """In a leader, right before it ends with AGAIN."""
        os.write(self._writer, json.dumps(asdict(shape)).encode() + b"\n")  # so short that it arrives in one piece

    def leave(self) -> None:
        """In a leader, which has nothing more to ask."""
        os.close(self._reader)
        os.close(self._writer)

    def worth_asking(self, shape: "EncoderShape") -> bool:
        """Whether the fork server would warm it; in a leader or in the fork server."""
        small = shape.layer_weights <= _MOST_LAYER_WEIGHTS and shape.max_tokens <= _MOST_TOKENS
        return small and shape not in self._tried and len(self._tried) < MAX_SHAPES

    def warm_what_was_asked(self) -> None:
        """For a leader that ended with AGAIN. Takes as long as compiling does, twice."""
        from model_api.compute.encoder_shape import EncoderShape

        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._reader, 65536)
        *lines, self._told = self._told.split(b"\n")
        for line in lines:
            shape = EncoderShape.from_message(json.loads(line))
            if not self.worth_asking(shape):
                continue
            self._tried.add(shape)
            if _works_in_a_child(shape):
                shape.warm()
                return_memory()
                gc.collect()
                gc.freeze()
            else:
                log.warning("a shape can't be warmed for all", extra={"fields": asdict(shape)})


def _works_in_a_child(shape: "EncoderShape") -> bool:
    """A shape comes from a model's config.json: whatever it may do to a process, it mustn't do to this one."""

    def run() -> None:
        limit_bytes = allocated_bytes() + _TRIAL_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        resource.setrlimit(resource.RLIMIT_CPU, (_TRIAL_CPU_S, _TRIAL_CPU_S))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        shape.warm()

    return os.waitpid(fork_child(run), 0)[1] == 0


def return_memory() -> None:
    """Give back what was freed and the allocator keeps (MALLOC_TRIM_THRESHOLD_ has it keep much, for the lanes)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
