"""What the children of a leader do: one question at a time, until the web process closes the socket. The other ends are
lane.ProcessLane and encoding_process.EncodingProcess."""

import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model_api.processes import messages
from model_api.tasks.contract import Array, ModelSide
from model_api.tasks.text.encoding import Encoder

Reply = tuple[Mapping[str, Any], Sequence[Array]]


def run_lane(connection: socket.socket, model: ModelSide) -> None:
    """A lane's life: a batch in, its outputs out, until the web process closes the socket."""
    model.after_fork()

    def forward(header: Mapping[str, Any], arrays: Sequence[Array]) -> Reply:
        return {}, model.forward(arrays, header["parameters"])

    _answer_until_closed(connection, forward)


def run_encoder(connection: socket.socket, encoder: Encoder) -> None:
    """Life of the process that encodes and decodes for the web process, where the model's tokenizer must not run there.
    The other end is encoding_process.EncodingProcess."""

    def encode(header: Mapping[str, Any], arrays: Sequence[Array]) -> Reply:
        if arrays:
            return {"text": encoder.decode(arrays[0].tolist(), header["skip_special"])}, []
        if "join" in header:
            return {"texts": encoder.join(header["join"])}, []
        if "tokens" in header:
            return {"ids": encoder.ids_of(header["tokens"])}, []
        if header.get("located"):
            found = encoder.locate(header["texts"])
            tables = [np.stack([one.ids, one.starts, one.ends, one.words, one.special]) for one in found]
            return {"n_special": encoder.n_special, "pieces": [one.pieces for one in found]}, tables
        encoded = encoder.encode(header["texts"])
        ids = [np.asarray(one.ids, np.int32) for one in encoded]
        return {"n_special": encoder.n_special, "ends": [one.ends for one in encoded]}, ids

    _answer_until_closed(connection, encode)


def _answer_until_closed(
    connection: socket.socket, answer: Callable[[Mapping[str, Any], Sequence[Array]], Reply]
) -> None:
    while True:
        try:
            header, arrays = messages.receive(connection)
        except OSError:
            return
        try:
            reply, outputs = answer(header, arrays)
        except BaseException as error:  # a panic of a native library is no Exception
            # The place, never the message: it may quote a caller's data, and this goes to the log.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
            reply, outputs = {"error": place}, []
        try:
            messages.send(connection, reply, outputs)
        except OSError:
            return
