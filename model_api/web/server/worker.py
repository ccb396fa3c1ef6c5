"""gunicorn's worker: nothing that a client does slowly takes a thread, and nothing it does at all takes health.

For gunicorn.conf.py: `worker_class = "model_api.web.server.worker.Worker"`. gunicorn starts it, watches it and starts
it anew. The main thread (front.py) holds every connection until a request is whole, and writes what a slow reader
hasn't taken; threads of a pool only ever have whole requests. /healthz is answered on the main thread itself.
"""

import os
import time
from typing import Any

from gunicorn.workers.base import Worker as GunicornWorker

from model_api.settings import Settings
from model_api.web.metrics import Metrics
from model_api.web.server import refusals
from model_api.web.server.allocator import return_memory
from model_api.web.server.connection import Connection
from model_api.web.server.front import LINGER_AT_STOP_S, Front
from model_api.web.server.incoming import IncomingRequest
from model_api.web.server.limits import raise_file_limit, server_limits
from model_api.web.server.outgoing import OutgoingResponse
from model_api.web.server.refusals import refusal_bytes
from model_api.web.server.streamed_body import StreamedBody


class Worker(GunicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """One web process."""

    alive: bool  # gunicorn's: False from the moment it is told to stop

    def load_wsgi(self) -> None:
        """gunicorn calls it in the new process, before any thread is there."""
        return_memory()
        super().load_wsgi()

    def run(self) -> None:
        """The main thread, until the worker is told to stop and its last request is answered."""
        raise_file_limit()
        settings = self.wsgi.extensions.get("model_api_settings") or Settings()
        metrics = self.wsgi.extensions.get("model_api_metrics") or Metrics()
        limits = server_limits(settings)
        self._base = {
            "SCRIPT_NAME": "",
            "SERVER_SOFTWARE": "model-api",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        self._patience_s = settings.request_timeout_s
        self._front = Front(self.sockets, limits, settings, answer=self.answer, count_refusal=metrics.count_refusal)
        while self.alive and self.ppid == os.getppid():
            self.notify()
            self._front.turn(1.0)
        self.alive = False
        self._front.stop_accepting()
        began = time.monotonic()
        while (waited_s := time.monotonic() - began) < self.cfg.graceful_timeout:
            self.notify()
            if not self._front.busy() and waited_s > LINGER_AT_STOP_S:
                break
            self._front.turn(0.1)
        self._front.close()

    def handle_exit(self, sig: Any, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._front.wake()

    def answer(self, connection: Connection, request: IncomingRequest) -> bool:
        """Answer on the calling thread; whether the connection can take another request. Never raises."""
        response = OutgoingResponse(
            request,
            lambda data: connection.send_streaming(data, self._patience_s),
            # A streamed body may be answered before its end, and what comes then is no request: the client hears so.
            keep_alive=request.keep_alive and self.alive and not request.streamed,
        )
        environ = request.environ(self._base)
        if request.streamed:
            environ["wsgi.input"] = StreamedBody(connection, request, self._patience_s)
        address, port = connection.sock.getsockname()[:2] if connection.peer else ("localhost", 0)
        environ |= {
            "REMOTE_ADDR": connection.peer or "unknown",
            "SERVER_NAME": address,
            "SERVER_PORT": str(port),
            "gunicorn.socket": connection.sock,
        }
        try:
            response.run(self.wsgi, environ)
        except OSError:
            connection.gone = True
            return False
        except Exception:
            self.log.exception("a request failed outside of the application")
            if response.begun:
                connection.gone = True  # what was sent of it is all there is
            else:
                connection.unsent += refusal_bytes(refusals.FAILED)
            return False
        if request.streamed and not request.whole:
            connection.discarding = True  # it was answered before its end
            return False
        return response.keep_alive and request.keep_alive
