"""The threads that answer: each has one whole request at a time, and then waits a moment for the connection's next.

A thread goes on with its connection by itself, without the main thread: each change of thread costs (docs/adr/0006).
"""

import select
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from model_api.serving.shares import Shares
from model_api.serving.turnstile import Turnstile
from model_api.web.callers import caller_of, client_address
from model_api.web.server import refusals
from model_api.web.server.connection import Connection
from model_api.web.server.incoming import IncomingRequest
from model_api.web.server.limits import ServerLimits
from model_api.web.server.refusals import RequestRefused, refusal_bytes

LINGER_S = 1.0
UPLOADS = 16  # bodies that are read as they come, each by a thread
AT_WORK = 8  # requests at a time, not counting those that wait for a lane
HEALTH = b"/healthz"
RESERVED = (b"/readyz", b"/mount_check")  # on threads of their own: they may have to wait for a lock

Answer = Callable[[Connection, IncomingRequest], bool]
GiveBack = Callable[[Connection, bool], None]


class RequestThreads:
    """The pool, and everybody's share of it."""

    def __init__(
        self, limits: ServerLimits, proxy_hops: int, answer: Answer, give_back: GiveBack, count: Callable[[str], None]
    ) -> None:
        """`answer` answers a request, see Worker.answer. `give_back` hands a connection, and whether it may go on, to
        the main thread. `count` counts refusals. All are called on any thread."""
        self._proxy_hops = proxy_hops
        self._answer = answer
        self._give_back = give_back
        self._count = count
        self._requests = Shares(limits.requests)
        self._uploads = Shares(UPLOADS)
        self._bodies = Shares(limits.bodies_bytes)
        self._turnstile = Turnstile(AT_WORK)
        self._may_linger = threading.Semaphore(limits.threads - limits.requests)
        self._pool = ThreadPoolExecutor(limits.threads, "request")
        self._reserved_pool = ThreadPoolExecutor(2, "readiness")
        self._stopping = False

    def dispatch(self, connection: Connection, request: IncomingRequest) -> bool | None:
        """Main thread: answer at once, and whether the connection may go on; or None, and a thread will answer."""
        path = request.path
        if path == HEALTH:
            return self._finish(connection, request)
        if path in RESERVED:
            self._reserved_pool.submit(self._serve, connection, request, lingers=False)
            return None
        if not self._enter(connection, request):
            return request.keep_alive
        self._pool.submit(self._serve, connection, request)
        return None

    def stop(self) -> None:
        self._stopping = True
        self._pool.shutdown(wait=False)
        self._reserved_pool.shutdown(wait=False)

    def reserve_body(self, peer: str, request: IncomingRequest, n_bytes: int) -> bool:
        """Room for so many more bytes of a body. Any thread."""
        return self._bodies.take(self._caller(peer, request), n_bytes)

    def forget(self, connection: Connection, request: IncomingRequest) -> None:
        """A request that is not going to be answered gives its room back, too."""
        if request.reserved_bytes:
            self._bodies.give_back(self._caller(connection.peer, request), request.reserved_bytes)
            request.reserved_bytes = 0
        request.body = bytearray()

    def _caller(self, peer: str, request: IncomingRequest) -> str:
        return caller_of(client_address(peer, request.forwarded, self._proxy_hops))

    def _enter(self, connection: Connection, request: IncomingRequest) -> bool:
        """A place for it; or it is refused."""
        connection.caller = self._caller(connection.peer, request)
        if self._requests.take(connection.caller):
            if not request.streamed or self._uploads.take(connection.caller):
                return True
            self._requests.give_back(connection.caller)
        if request.streamed:
            connection.refusal = refusals.NO_THREAD
            return False
        self._count("requests")
        connection.send(refusal_bytes(refusals.NO_THREAD, keep_alive=request.keep_alive))
        self.forget(connection, request)
        return False

    def _finish(self, connection: Connection, request: IncomingRequest) -> bool:
        try:
            return self._answer(connection, request)
        finally:
            self.forget(connection, request)

    def _serve(self, connection: Connection, request: IncomingRequest | None, *, lingers: bool = True) -> None:
        """On a thread of a pool: until the connection's next request doesn't come at once."""
        keep_alive = True
        while request is not None:
            if not lingers:
                keep_alive = self._finish(connection, request)
                break
            caller = connection.caller
            self._turnstile.enter()
            try:
                keep_alive = self._finish(connection, request)
            finally:
                self._turnstile.leave()
                self._requests.give_back(caller)
                if request.streamed:
                    self._uploads.give_back(caller)
            if not keep_alive or connection.unsent or self._stopping:
                break
            request = connection.next_request() or self._linger(connection)
            if request is not None and not self._enter(connection, request):
                keep_alive = request.keep_alive
                break
        self._give_back(connection, keep_alive)

    def _linger(self, connection: Connection) -> IncomingRequest | None:
        """Wait a while for the next request, unless many threads do so already."""
        if connection.reader.request is not None or not self._may_linger.acquire(blocking=False):
            return None
        try:
            readable = select.poll()
            readable.register(connection.sock, select.POLLIN)
            if not readable.poll(LINGER_S * 1e3):
                return None
            data = connection.receive()
            if data:
                connection.feed(data)
        except RequestRefused as error:
            connection.refusal = error.refusal
        except OSError:
            connection.gone = True
        finally:
            self._may_linger.release()
        return connection.next_request()
