"""A real HTTP server that gives the answers it was told, one after another, and remembers what it was asked."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Scripted:
    """One answer. Without a status the connection is closed instead."""

    status: int | None
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    at_s: float  # of time.monotonic()
    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class ScriptedServer:
    """`asked` grows with every request; the last answer is given for ever."""

    def __init__(self, url: str, answers: Sequence[Scripted]) -> None:
        self.url = url
        self.asked: list[Asked] = []
        self._answers = list(answers)
        self._lock = threading.Lock()

    def next_answer(self, asked: Asked) -> Scripted:
        with self._lock:
            self.asked.append(asked)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@contextmanager
def scripted_server(*answers: Scripted) -> Iterator[ScriptedServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            found = script.next_answer(Asked(time.monotonic(), self.command, self.path, headers, body))
            if found.status is None:
                self.close_connection = True
                return
            content = found.body if isinstance(found.body, bytes) else json.dumps(found.body).encode()
            self.send_response(found.status)
            kind = "application/problem+json" if found.status >= 400 else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **found.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
            """Nothing on the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.daemon_threads = True
        script = ScriptedServer(f"http://127.0.0.1:{http.server_address[1]}", answers)
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            http.shutdown()
            thread.join()
