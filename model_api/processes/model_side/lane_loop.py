"""What the children of a leader do: one question at a time, until the web process closes the socket. The other ends are
lane.ProcessLane and encoding_process.EncodingProcess."""

import select
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from model_api.errors import ForwardFailed, InvalidInput
from model_api.processes import messages
from model_api.tasks.contract import Array, ModelSide, Talk
from model_api.tasks.text.encoding import Encoder

Reply = tuple[Mapping[str, Any], Sequence[Array]]


def run_lane(connection: socket.socket, model: ModelSide) -> None:
    """A lane's life: a batch in, its outputs out, until the web process closes the socket."""
    model.after_fork()

    def forward(header: Mapping[str, Any], arrays: Sequence[Array]) -> Reply:
        if "tells" not in header:
            return {}, model.forward(arrays, header["parameters"])
        outputs, finished = model.run(arrays, header["parameters"], LaneTalk(connection, tells=header["tells"]))
        return {"finished": finished}, outputs

    _answer_until_closed(connection, forward)


class LaneTalk(Talk):
    """Over the lane's socket, while its forward runs. The other end is lane.ProcessLane."""

    def __init__(self, connection: socket.socket, *, tells: bool) -> None:
        self._connection = connection
        self._tells = tells
        self._wanted: Literal["", "others", "nobody"] = ""
        self._arrivals = select.poll()
        self._arrivals.register(connection, select.POLLIN)

    def tell(self, text: str, begin: int) -> None:
        if self._tells:
            messages.send(self._connection, {"part": text, "begin": begin})

    def wanted(self) -> Literal["", "others", "nobody"]:
        if self._wanted != "nobody" and self._arrivals.poll(0):
            try:
                self._wanted = messages.receive(self._connection)[0]["leave"]
            except OSError:
                self._wanted = "nobody"
        return self._wanted


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
        if "messages" in header:
            try:
                return {}, [np.asarray(encoder.encode_chat(header["messages"]), np.int32)]
            except InvalidInput as error:
                return {"refused": str(error)}, []
            except ForwardFailed as error:
                return {"failed": str(error)}, []
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
        if "leave" in header:
            continue  # it came when the forward had just ended
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
