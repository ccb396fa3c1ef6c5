"""Asking a server over HTTP, wherever it runs, and waiting for what it will say."""

import http.client
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tests.rigs.polling import wait_until

START_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 40.0
Dial = Callable[[], socket.socket]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _Connection(http.client.HTTPConnection):
    def __init__(self, dial: Dial) -> None:
        super().__init__("server")
        self._dial = dial

    def connect(self) -> None:
        self.sock = self._dial()
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Client:
    """One kept-alive connection. For one thread at a time; a connection that the server closed is opened again."""

    def __init__(self, dial: Dial) -> None:
        self._connection = _Connection(dial)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Response:
        """Raises OSError or http.client.HTTPException. Sent once: nothing is tried again behind the test's back."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})} if data is not None else dict(headers or {})
        try:
            self._connection.request(method, path, data, sent)
            answer = self._connection.getresponse()
            content = answer.read()
        except BaseException:
            self._connection.close()
            raise
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)

    def close(self) -> None:
        self._connection.close()


class Api(ABC):
    """A server under test."""

    @abstractmethod
    def _dial(self) -> socket.socket:
        """A new connection to it. Raises OSError."""

    @abstractmethod
    def expect_running(self) -> None:
        """Fail if it has ended."""

    @abstractmethod
    def log_tail(self) -> str:
        """The end of its log, for messages of failed tests."""

    def wait_for_status(self, path: str, status: int, within_s: float = START_TIMEOUT_S) -> Response:
        """The first answer with `status`. Fails with the log's end if the process ends or time is up."""

        def look() -> Response | None:
            self.expect_running()
            with suppress(OSError, http.client.HTTPException):
                answer = self.get(path)
                return answer if answer.status == status else None
            return None

        try:
            answer = wait_until(look, within_s=within_s, every_s=0.05, what=f"{status} for {path}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None
        assert answer is not None
        return answer

    def wait_until_ready(self, within_s: float = START_TIMEOUT_S) -> Response:
        return self.wait_for_status("/readyz", 200, within_s)

    def wait_for_model(self, name: str, within_s: float = START_TIMEOUT_S, **wanted: Any) -> dict[str, Any]:
        """GET /models/<name> as soon as it holds what is `wanted`, e.g. version="2", state="serving"."""

        def look() -> dict[str, Any] | None:
            answer = self.get(f"/models/{name}")
            model: dict[str, Any] = answer.json() if answer.status == 200 else {}
            return model if model and all(model.get(key) == value for key, value in wanted.items()) else None

        try:
            found = wait_until(look, within_s=within_s, every_s=0.05, what=f"{name} with {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.get('/models/' + name).body!r}\n{self.log_tail()}") from None
        assert found is not None
        return found

    def client(self) -> Client:
        """For load: a connection of its own for each thread. Close it."""
        return Client(self._dial)

    def get(self, path: str, **headers: str) -> Response:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Response:
        return self._ask("POST", path, body, headers)

    def _ask(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        client = self.client()
        try:
            return client.ask(method, path, body, headers)
        finally:
            client.close()
