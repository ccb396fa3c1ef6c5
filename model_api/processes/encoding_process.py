"""The web process's end of a version's encoding process: it runs the tokenizer that the web process must not run.

It is a child of the version's leader, and what a text does to it (a panic, a search without end, all memory) ends it
alone. One question runs at a time, in pieces, so that a long text doesn't hold the short ones behind it.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from model_api.errors import DeadlineExceeded, ForwardFailed, InvalidInput, LaneFailed, ModelNotReady, QueueFull
from model_api.processes import messages
from model_api.tasks.contract import Array
from model_api.tasks.text.chat_template import Messages
from model_api.tasks.text.encoding import ArrivedText, Encoded, LocatedText, time_left_s

ANSWER_TIMEOUT_S = 5.0  # for a piece, which takes a tenth of a second
SLOWEST_CHARS_PER_S = 100_000  # of a text that is longer than a piece; usual are a million
TURN_TIMEOUT_S = 10.0
MAX_WAITING = 16
PIECE_CHARS = 65_536
PIECE_TEXTS = 256


class _TookTooLong(DeadlineExceeded):
    """It was ended for that; not merely waited for in vain."""


class EncodingProcess:
    """An Encoder (tasks/text/encoding.py). Any thread."""

    def __init__(self, kill: Callable[[], None]) -> None:
        """`kill` has the leader end the process and start another."""
        self._kill = kill
        self._changed = threading.Condition()
        self._connection: socket.socket | None = None
        self._busy = False
        self._closed = False
        self._waiting = 0
        self.n_special = 0

    def connect(self, connection: socket.socket) -> None:
        """The leader started one (anew)."""
        with self._changed:
            if self._closed:
                connection.close()
                return
            if self._connection is not None and not self._busy:
                self._connection.close()
            self._connection = connection
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)  # wakes who waits for its answer, and then closes it
                if not self._busy:
                    connection.close()
            self._changed.notify_all()

    def encode(self, texts: Sequence[str]) -> Sequence[Encoded]:
        encoded: list[Encoded] = []
        for piece in _pieces(texts):
            n_chars = sum(map(len, piece))
            header, arrays = self._ask({"texts": piece}, timeout_s=ANSWER_TIMEOUT_S + n_chars / SLOWEST_CHARS_PER_S)
            self.n_special = header["n_special"]
            ends = header["ends"]
            encoded += [ArrivedText(ids, (lead, trail)) for ids, (lead, trail) in zip(arrays, ends, strict=True)]
        return encoded

    def encode_chat(self, messages: Messages) -> Array:
        """Raises as Encoder.encode_chat."""
        listed = [dict(message) for message in messages]
        try:
            reply, outputs = self._ask({"messages": listed}, timeout_s=ANSWER_TIMEOUT_S)
        except LaneFailed:
            raise ForwardFailed("the model's chat template ended its process") from None
        except _TookTooLong:
            raise ForwardFailed("the model's chat template takes too long") from None
        if "refused" in reply:
            raise InvalidInput(reply["refused"])
        if "failed" in reply:
            raise ForwardFailed(reply["failed"])
        return outputs[0]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        return str(self._ask({"skip_special": skip_special}, [np.asarray(ids, np.int32)])[0]["text"])

    def locate(self, texts: Sequence[str]) -> Sequence[LocatedText]:
        found: list[LocatedText] = []
        for piece in _pieces(texts):
            timeout_s = ANSWER_TIMEOUT_S + sum(map(len, piece)) / SLOWEST_CHARS_PER_S
            header, tables = self._ask({"texts": piece, "located": True}, timeout_s=timeout_s)
            self.n_special = header["n_special"]
            for (ids, starts, ends, words, special), pieces in zip(tables, header["pieces"], strict=True):
                found.append(LocatedText(ids, starts, ends, words, special, pieces))
        return found

    def join(self, pieces: Sequence[Sequence[str]]) -> Sequence[str]:
        joined: list[str] = []
        for start in range(0, len(pieces), PIECE_TEXTS):
            joined += self._ask({"join": pieces[start : start + PIECE_TEXTS]})[0]["texts"]
        return joined

    def ids_of(self, tokens: Sequence[str]) -> Sequence[int | None]:
        found: Sequence[int | None] = self._ask({"tokens": list(tokens)})[0]["ids"]
        return found

    def _ask(
        self, header: Mapping[str, Any], arrays: Sequence[Array] = (), timeout_s: float = ANSWER_TIMEOUT_S
    ) -> tuple[dict[str, Any], list[Array]]:
        connection = self._take_turn()
        try:
            # Not only the request's own time that is left: giving up on a process ends it for the others too.
            connection.settimeout(timeout_s)
            messages.send(connection, header, arrays)
            reply, outputs = messages.receive(connection)
        except (OSError, ValueError) as error:
            self._lose(connection)
            if isinstance(error, TimeoutError):
                self._kill()
                raise _TookTooLong("the model's tokenizer took too long on this input") from error
            raise LaneFailed("the model's tokenizer ended under this request") from error
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
        if "error" in reply:
            raise ForwardFailed("the model's tokenizer failed on this input")
        return reply, outputs

    def _take_turn(self) -> socket.socket:
        def free() -> bool:
            return self._closed or (self._connection is not None and not self._busy)

        with self._changed:
            if self._waiting >= MAX_WAITING:
                raise QueueFull("too many requests wait for the model's tokenizer")
            self._waiting += 1
            try:
                in_time = self._changed.wait_for(free, time_left_s(TURN_TIMEOUT_S))
            finally:
                self._waiting -= 1
            if self._closed:
                raise ModelNotReady("this version", "its processes are going away")
            if not in_time or self._connection is None:
                raise DeadlineExceeded("the model's tokenizer was busy with other requests")
            self._busy = True
            return self._connection

    def _lose(self, connection: socket.socket) -> None:
        with self._changed:
            if self._connection is connection:
                self._connection = None
        connection.close()


def _pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    piece: list[str] = []
    n_chars = 0
    for text in texts:
        if piece and (n_chars + len(text) > PIECE_CHARS or len(piece) == PIECE_TEXTS):
            yield piece
            piece, n_chars = [], 0
        piece.append(text)
        n_chars += len(text)
    if piece:
        yield piece
