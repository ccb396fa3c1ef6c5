"""A leader: brings one version up, then keeps its children alive until the web process has done with it; for the next
web process too, if that comes in time."""

import contextlib
import logging
import os
import socket
from typing import Any

from model_api.errors import ModelApiError, ProbeFailed, Refused
from model_api.processes import messages
from model_api.processes.model_side.children import Children
from model_api.processes.model_side.limits import LEADER_OOM_SCORE, be_ended_before_others, bound_memory
from model_api.processes.model_side.shared_code import AGAIN, SharedCode
from model_api.processes.spec import LeaderSpec

log = logging.getLogger(__name__)


def lead(control: socket.socket, handover: socket.socket, shared: SharedCode, *, again: bool) -> None:
    """A leader's life: take the order, fetch, load, warm, check, fork the lanes, and start each anew that dies.

    The order is a LeaderSpec's message. Reports stages as they begin, and {"event": "failed"} with `final`. One whose
    model's shape isn't warm ends with AGAIN after the fetch, having asked for the order once more; `again` is the one
    that is forked then. A web process ends a leader by a message; where one merely ends, the fork server may send the
    control socket of another over `handover`.
    """
    be_ended_before_others(LEADER_OOM_SCORE)
    messages.send(control, {"event": "started", "pid": os.getpid()})

    found: dict[str, Any] = {}  # what the web process was told of the copy

    def report(stage: str, **details: Any) -> None:
        if stage == "loading":
            found.update(details)
        messages.send(control, {"event": "stage", "stage": stage, **details})

    try:
        from model_api.processes.model_side.bring_up import bring_up, fetch, shape_of

        spec = LeaderSpec.from_message(messages.receive(control)[0])
        bound_memory(spec.manifest)
        folder = fetch(spec, report, again=again)
        shape = None if again else shape_of(spec, folder)
        if shape is not None and shared.worth_asking(shape):
            shared.ask(shape)
            messages.send(control, {"event": "again"})
            os._exit(AGAIN)
        shared.leave()
        loaded = bring_up(spec, folder, report)
    except BaseException as error:  # a panic of a native library is no Exception
        known = isinstance(error, ModelApiError)
        if not known and not isinstance(error, messages.PeerGone):
            log.exception("loading failed")
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            messages.send(control, {"event": "failed", "reason": reason, "final": is_final(error)})
        return
    Children(control, handover, loaded, spec, found).run()


def is_final(error: BaseException) -> bool:
    """Whether another attempt would come to the same: it was the content that decided, not the machine.

    bring_up makes a Refused of whatever loading a verified copy raises; what is left is the machine's (a disk, a mount,
    a child that was killed from outside) and passes.
    """
    return isinstance(error, Refused | ProbeFailed)
