"""A WSGI input that waits for its client: what an upload's body is read from."""

from model_api.web.server.connection import RECV_BYTES, Connection
from model_api.web.server.incoming import IncomingRequest


class StreamedBody:
    """`wsgi.input` of a streamed request; on its request's thread."""

    def __init__(self, connection: Connection, request: IncomingRequest, patience_s: float) -> None:
        self._connection = connection
        self._request = request
        self._patience_s = patience_s
        if request.expects_continue and not request.body:
            connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def read(self, size: int = -1) -> bytes:
        """All that is left, for a negative `size`. Raises as Connection.read_streamed."""
        wanted = size if size >= 0 else 1 << 62
        found = bytearray()
        while len(found) < wanted:
            step = min(wanted - len(found), RECV_BYTES)
            piece = self._connection.read_streamed(self._request, step, self._patience_s)
            if not piece:
                break
            found += piece
        return bytes(found)
