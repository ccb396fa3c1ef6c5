"""The main thread's part of the server: every connection that waits for its client is here, and costs no thread.

Who may be here: so many connections, a share of them per caller; so many bytes of bodies and of unsent answers, a share
of them per caller; and a time for everything.
"""

import contextlib
import logging
import os
import queue
import random
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from model_api.serving.shares import Shares
from model_api.settings import Settings
from model_api.web.callers import caller_of
from model_api.web.server import refusals
from model_api.web.server.connection import RECV_BYTES, Connection
from model_api.web.server.deadlines import Deadlines
from model_api.web.server.incoming import IncomingRequest, RequestReader
from model_api.web.server.limits import ServerLimits
from model_api.web.server.listening import Listening
from model_api.web.server.refusals import Refusal, RefusalCounts, RequestRefused, refusal_bytes
from model_api.web.server.request_threads import Answer, RequestThreads

FIRST_BYTE_S = 10.0  # for a new connection to say something
HEAD_S = 10.0  # for all headers of a request
IDLE_S = 75.0  # between requests: longer than a proxy in front keeps an idle connection, or it would meet a closed one
LINGER_AT_STOP_S = 2.0  # a client may be sending on a kept-alive connection when the server stops
DISCARD_S = 5.0  # for what a refused client still sends
LOOK_EVERY = 16  # connections, for new ones
# Fewer than were looked at: where a proxy opens a connection per request, most of what happens is that one has ended.
# Were more accepted meanwhile, those that ended would pile up until there is no room for a new one.
ACCEPTED_PER_LOOK = LOOK_EVERY // 2
# Of bodies and large answers in one turn, so that nobody else waits long for theirs.
TRANSFERS_PER_TURN = 8
TRANSFERS_PER_TURN_S = 0.05
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

log = logging.getLogger(__name__)


class Front:
    """Connections. `turn` is called by the main thread only."""

    def __init__(
        self,
        listeners: Sequence[Any],
        limits: ServerLimits,
        settings: Settings,
        *,
        answer: Answer,
        count_refusal: Callable[[str], None],
    ) -> None:
        """`answer` is called on any thread for a whole request, see Worker.answer; `count_refusal` for the metrics."""
        self._limits = limits
        self._settings = settings
        self._refused = RefusalCounts(count_refusal)
        self._patience_s = settings.request_timeout_s
        self._connections: set[Connection] = set()
        self._peers = Shares(limits.connections)
        self._unsent = Shares(limits.unsent_bytes)
        self._threads = RequestThreads(limits, settings.proxy_hops, answer, self._return, self._refused.count)
        self._returned: queue.SimpleQueue[tuple[Connection, bool]] = queue.SimpleQueue()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_read, READ, self._woken)
        self._deadlines = Deadlines()
        self._stopping = False
        self._listening = Listening(listeners, self._selector, self._accepted)

    def turn(self, wait_s: float) -> None:
        """Wait up to `wait_s` for something to do, and do all there is."""
        now = time.monotonic()
        self._listening.resume(now)
        wait_s = min(wait_s, max(0.0, self._deadlines.next() - now))
        in_transfer: list[Connection] = []
        for number, (key, _) in enumerate(self._selector.select(wait_s)):
            if number % LOOK_EVERY == LOOK_EVERY - 1:
                self._listening.look(ACCEPTED_PER_LOOK)
            connection = key.data
            if not isinstance(connection, Connection):
                connection(key.fileobj)
            elif connection.in_transfer:
                in_transfer.append(connection)
            else:
                self._guarded(self._ready, connection)
        # Each read or write may have to wait for the interpreter's lock: the large ones take turns.
        random.shuffle(in_transfer)
        until = time.monotonic() + TRANSFERS_PER_TURN_S
        for connection in in_transfer[:TRANSFERS_PER_TURN]:
            self._guarded(self._ready, connection)
            if time.monotonic() > until:
                break
        self._take_back()
        for connection in self._deadlines.passed(time.monotonic()):
            self._guarded(self._time_is_up, connection)
        self._refused.tell(time.monotonic())

    def wake(self) -> None:
        """Any thread; also in a signal's handler."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(self._wake_write, b"\0")

    def stop_accepting(self) -> None:
        self._stopping = True
        self._listening.close()
        for connection in self._connections:
            if connection.events and self._is_idle(connection):
                self._wait(connection, READ, time.monotonic() + LINGER_AT_STOP_S)

    def busy(self) -> bool:
        """Whether a request is coming or in progress, or an answer going."""
        return any(not connection.events or not self._is_idle(connection) for connection in self._connections)

    def close(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        self._threads.stop()

    def _is_idle(self, connection: Connection) -> bool:
        return not connection.unsent and connection.reader.request is None and not connection.discarding

    def _woken(self, _: Any) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _return(self, connection: Connection, keep_alive: bool) -> None:
        """A request's thread has done with it."""
        self._returned.put((connection, keep_alive))
        self.wake()

    def _take_back(self) -> None:
        while True:
            try:
                connection, keep_alive = self._returned.get_nowait()
            except queue.Empty:
                return
            connection.keep_alive = keep_alive
            self._guarded(self._after, connection)

    def _accepted(self, sock: socket.socket, peer: str) -> None:
        # Behind a proxy all connections are the proxy's, which has limits of its own.
        caller = "" if self._settings.proxy_hops else caller_of(peer)
        if len(self._connections) >= self._limits.connections or (caller and not self._peers.take(caller)):
            self._refused.count("connections")
            with contextlib.suppress(OSError), sock:
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):  # what has come: to close over it would take the answer back
                    sock.recv(RECV_BYTES)
                sock.send(refusal_bytes(refusals.NO_CONNECTION))
            return

        def admit(request: IncomingRequest, n_bytes: int) -> bool:
            return self._threads.reserve_body(peer, request, n_bytes)

        connection = Connection(sock, peer, caller, RequestReader(self._settings.max_body_bytes, admit))
        connection.deadline = time.monotonic() + FIRST_BYTE_S
        self._connections.add(connection)
        self._guarded(self._read, connection)

    def _guarded(self, act: Callable[[Connection], None], connection: Connection) -> None:
        """One connection's trouble is never another's."""
        try:
            act(connection)
        except OSError:
            self._drop(connection)
        except Exception:
            log.exception("a connection is dropped")
            self._drop(connection)

    def _ready(self, connection: Connection) -> None:
        if connection.events == READ:
            self._read(connection)
        elif connection.flush():
            self._unsent.give_back(connection.caller, connection.reserved_bytes)
            connection.reserved_bytes = 0
            self._go_on(connection)
        else:
            self._wait(connection, WRITE, connection.due(self._patience_s))

    def _read(self, connection: Connection) -> None:
        data = connection.receive()
        if data is None:
            self._wait(connection, READ, connection.deadline)
        elif connection.discarding:
            connection.discarded_bytes += len(data)
            if not data:
                self._drop(connection)
        elif data:
            try:
                connection.feed(data)
            except RequestRefused as error:
                self._refuse(connection, error.refusal)
            else:
                self._go_on(connection)
        elif connection.reader.in_body:
            self._refuse(connection, refusals.CUT_OFF)
        else:
            self._drop(connection)

    def _go_on(self, connection: Connection) -> None:
        """What is next for a connection that has nothing unsent."""
        request = connection.next_request() if connection.keep_alive and not connection.discarding else None
        coming = connection.reader.request
        if connection.discarding:
            connection.sock.shutdown(socket.SHUT_WR)
            self._wait(connection, READ, time.monotonic() + DISCARD_S)
        elif not connection.keep_alive:
            self._drop(connection)
        elif request is not None:
            self._wait(connection, 0, 0.0)
            kept = self._threads.dispatch(connection, request)
            if kept is not None:
                connection.keep_alive = kept
                self._after(connection)
        elif coming is None:
            self._wait(connection, READ, time.monotonic() + (LINGER_AT_STOP_S if self._stopping else IDLE_S))
        elif connection.reader.in_body:
            if coming.expects_continue:
                coming.expects_continue = False
                connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._wait(connection, READ, connection.due(self._patience_s))
        else:
            self._wait(connection, READ, connection.began + HEAD_S)

    def _after(self, connection: Connection) -> None:
        """An answer was given, though some of it may not have gone."""
        refusal, connection.refusal = connection.refusal, None
        if connection.gone:
            self._drop(connection)
        elif refusal is not None:  # of what came while a thread waited for it
            self._refuse(connection, refusal)
        elif not connection.unsent:
            self._go_on(connection)
        elif self._unsent.take(connection.caller, len(connection.unsent)):
            connection.reserved_bytes = len(connection.unsent)
            self._wait(connection, WRITE, connection.due(self._patience_s))
        else:
            self._refused.count("unsent answers")
            self._drop(connection, abort=True)

    def _refuse(self, connection: Connection, refusal: Refusal) -> None:
        """Answer, then read and drop what still comes: closing at once would take the answer from the client."""
        self._refused.count(refusal.kind)
        connection.send(refusal_bytes(refusal))
        connection.discarding = True
        connection.keep_alive = False
        self._forget_requests(connection)
        self._after(connection)

    def _wait(self, connection: Connection, events: int, deadline: float) -> None:
        """For `events` until `deadline`; 0 for not at all."""
        if events != connection.events:
            if not events:
                self._selector.unregister(connection.sock)
            elif connection.events:
                self._selector.modify(connection.sock, events, connection)
            else:
                self._selector.register(connection.sock, events, connection)
            connection.events = events
        connection.deadline = deadline
        if events:
            self._deadlines.watch(connection)

    def _time_is_up(self, connection: Connection) -> None:
        if connection.reader.request is not None and not connection.discarding:
            self._refuse(connection, refusals.TOO_SLOW)
        else:
            self._drop(connection, abort=bool(connection.unsent))

    def _drop(self, connection: Connection, *, abort: bool = False) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        if connection.events:
            self._selector.unregister(connection.sock)
            connection.events = 0
        if abort:
            connection.abort()
        connection.sock.close()
        self._forget_requests(connection)
        if connection.peer_caller:
            self._peers.give_back(connection.peer_caller)
        if connection.reserved_bytes:
            self._unsent.give_back(connection.caller, connection.reserved_bytes)

    def _forget_requests(self, connection: Connection) -> None:
        reader = connection.reader
        for request in (*reader.complete, *([reader.request] if reader.request is not None else ())):
            self._threads.forget(connection, request)
        reader.complete.clear()
        reader.request = None
