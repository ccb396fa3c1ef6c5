"""What a lane does: a batch in, its outputs out. The model side's end of lane.ProcessLane."""

import socket
import traceback
from pathlib import Path
from typing import Any

from model_api.processes import messages
from model_api.tasks.contract import ModelSide


def run_lane(connection: socket.socket, model: ModelSide) -> None:
    """A lane's life: a batch in, its outputs out, until the web process closes the socket."""
    model.after_fork()
    while True:
        try:
            header, arrays = messages.receive(connection)
        except OSError:
            return
        try:
            outputs = model.forward(arrays, header["parameters"])
            reply: dict[str, Any] = {}
        except Exception as error:
            # The place, never the message: it may quote a caller's data, and this goes to the log.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            reply, outputs = {"error": place}, []
        try:
            messages.send(connection, reply, outputs)
        except OSError:
            return
