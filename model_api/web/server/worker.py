"""gunicorn's gthread worker, which tells what gunicorn itself refuses (broken requests) as problem+json.

For gunicorn.conf.py: `worker_class = "model_api.web.server.worker.ProblemWorker"`. Flask never sees these requests.
"""

import secrets
import select
import socket
import threading
from collections.abc import Mapping
from typing import Any

import orjson
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from model_api.web.server.client_socket import ClientSocket

LINGER_S = 1.0
LINGERING_PART = 3  # one in so many threads may wait for a connection's next request

# gunicorn's exception -> status, title. Its own texts may quote the request, so they go to the log alone.
REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    errors.LimitRequestLine: (414, "URI Too Long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented"),
    errors.ExpectationFailed: (417, "Expectation Failed"),
    errors.ForbiddenProxyRequest: (403, "Forbidden"),
    errors.InvalidResponseHeader: (500, "Internal Server Error"),  # by the app, so not the caller's fault
    errors.InvalidResponseHeaderName: (500, "Internal Server Error"),
    errors.ConfigurationProblem: (500, "Internal Server Error"),
    errors.ParseException: (400, "Bad Request"),
}


def refusal(error: BaseException) -> tuple[int, str]:
    """Status and title for what stopped gunicorn from handing a request to the app."""
    kinds = (REFUSALS[base] for base in type(error).__mro__ if base in REFUSALS)
    return next(kinds, (500, "Internal Server Error"))


def refusal_bytes(status: int, title: str, request_id: str) -> bytes:
    """The whole HTTP/1.1 response."""
    slug = title.lower().replace(" ", "-")
    document = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": "the request could not be read as HTTP" if status != 500 else "the server failed; its log has more",
        "instance": f"urn:request:{request_id}",
        "request_id": request_id,
    }
    body = orjson.dumps(document)
    head = (
        f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n"
        f"Connection: close\r\nX-Request-Id: {request_id}\r\nAccess-Control-Allow-Origin: *\r\n"
        "Access-Control-Expose-Headers: X-Request-Id\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    )
    return head.encode() + body


class ProblemWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread, with problem documents for refusals, and fewer changes of thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._may_linger = threading.Semaphore(self.cfg.threads // LINGERING_PART)

    def handle(self, conn: Any) -> Any:
        """Answer a request, and the next ones of its connection as long as they come without a pause; pool thread.

        gthread itself gives a connection back to the main thread after every request, and the main thread gives it
        to the pool again when the next one comes.
        """
        if not conn.initialized and not self.cfg.is_ssl:
            conn.sock = ClientSocket(conn.sock)
        while True:
            outcome = super().handle(conn)
            if not self._sent(conn.sock):
                return False
            if outcome is not True or not self.alive or not self._comes_soon(conn):
                return outcome

    def _sent(self, client: socket.socket) -> bool:
        if not isinstance(client, ClientSocket):
            return True
        try:
            client.flush()
        except OSError:
            self.log.debug("the client is gone before its answer")
            return False
        return True

    def _comes_soon(self, conn: Any) -> bool:
        """Wait a while for the next request, unless many threads do so already."""
        if conn.is_http2 or conn.parser.unreader.buf.getvalue() or not self._may_linger.acquire(blocking=False):
            return False
        try:
            readable = select.poll()
            readable.register(conn.sock, select.POLLIN)
            return bool(readable.poll(LINGER_S * 1e3))
        finally:
            self._may_linger.release()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        status, title = refusal(exc)
        request_id = secrets.token_hex(12)
        fields = {"id": request_id, "status": status, "error": type(exc).__name__}
        self.log.log(
            40 if status == 500 else 30,
            "request refused",
            exc_info=exc if status == 500 else None,
            extra={"fields": fields},
        )
        try:
            client.sendall(refusal_bytes(status, title, request_id))
        except OSError:
            self.log.debug("the client of a refused request is gone")
