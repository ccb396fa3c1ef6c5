"""gunicorn's gthread worker, which tells what gunicorn itself refuses (broken requests) as problem+json.

For gunicorn.conf.py: `worker_class = "model_api.gunicorn_worker.ProblemWorker"`. Flask never sees these requests.
"""

import secrets
import socket
from collections.abc import Mapping
from typing import Any

import orjson
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

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
    """gthread, with problem documents for refusals."""

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
