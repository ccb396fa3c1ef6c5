"""Who answers a batch of inputs: a running server, or a service in this process."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from model_api.errors import DeadlineExceeded, ForwardFailed, InvalidInput, LaneFailed, ModelApiError, RequestError
from model_api.repository.environment import key_headers
from model_api.serving.calls import UNGUARDED, CallContext, Guard, ModelService

CALLER = "jobs"  # all jobs and files of a server have one caller's share of it


class RowRefused(Exception):
    """One input can't be served; the others can."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class OneFails(Exception):
    """One of the inputs can't be served, and which isn't known: ask about each alone."""


class TryLater(Exception):
    """Nothing was answered, for a reason that may pass."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


class Hopeless(Exception):
    """No input of this file will be answered."""


class Asker(Protocol):
    """Any thread. Raises RowRefused, OneFails, TryLater or Hopeless. Asking nothing shows whether it can be asked."""

    def ask(self, inputs: Sequence[Any]) -> list[Any]: ...
    def close(self) -> None: ...


def index_of(pointer: str) -> int | None:
    """The n of /inputs/n."""
    parts = pointer.split("/")
    return int(parts[2]) if len(parts) > 2 and parts[1] == "inputs" and parts[2].isdigit() else None


class ServerAsker:
    """POST /predict of a running server; one kept-alive connection per thread."""

    def __init__(self, url: str, model: str, parameters: Mapping[str, Any], timeout_s: float = 120.0) -> None:
        try:
            parts = urlsplit(url)
            self._port = parts.port
        except ValueError as error:
            raise Hopeless(f"{url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Hopeless(f"{url!r} is not an http(s) address")
        self._parts, self._timeout_s = parts, timeout_s
        self._head = {"model": model, "parameters": dict(parameters)}
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[http.client.HTTPConnection] = []

    def ask(self, inputs: Sequence[Any]) -> list[Any]:
        body = json.dumps({**self._head, "inputs": list(inputs)}).encode()
        try:
            status, retry_after, content = self._post(body)
        except (OSError, http.client.HTTPException) as error:
            raise TryLater(f"no answer from {self._parts.netloc} ({type(error).__name__})", 1.0) from error
        try:
            document = json.loads(content)
            if status == 200:
                return list(document["predictions"])
            detail = str(document.get("detail", "")) or f"status {status}"
            pointer = (document.get("errors") or [{"pointer": ""}])[0]["pointer"]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise TryLater(f"status {status}, and not this API's answer", 1.0) from error
        if status == 422 and (index := index_of(pointer)) is not None:
            raise RowRefused(index, detail)
        if status in (400, 413, 500) and inputs:  # not JSON for the API, too large together, the model failed
            raise OneFails(detail) if len(inputs) > 1 else RowRefused(0, detail)
        if status in (429, 502, 503, 504):
            raise TryLater(detail, float(retry_after) if retry_after.isdigit() else 1.0)
        raise Hopeless(detail)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = kind(str(self._parts.hostname), self._port, timeout=self._timeout_s)
            self._local.connection = connection
            with self._lock:
                self._opened.append(connection)
        path = self._parts.path.rstrip("/") + "/predict"
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json", **key_headers()})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Retry-After", ""), answer.read()
        except BaseException:
            connection.close()  # it opens again with the next request
            raise

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


class ServiceAsker:
    """A started service in this process."""

    def __init__(
        self,
        service: ModelService,
        model: str,
        parameters: Mapping[str, Any],
        timeout_s: float = 600.0,
        has_left: Callable[[], bool] = lambda: False,
        guard: Guard = UNGUARDED,
    ) -> None:
        self._guard = guard
        self._service, self._model, self._parameters = service, model, parameters
        self._timeout_s = timeout_s
        self._has_left = has_left

    def ask(self, inputs: Sequence[Any]) -> list[Any]:
        until = time.monotonic() + self._timeout_s
        context = CallContext(until, CALLER, CALLER, self._has_left, no_cache=True, guard=self._guard)
        try:
            return self.answers(inputs, context)
        except InvalidInput as error:
            if (index := index_of(error.pointer)) is None:
                raise Hopeless(str(error)) from error
            raise RowRefused(index, str(error)) from error
        except RequestError as error:
            raise Hopeless(str(error)) from error
        except ForwardFailed as error:
            raise OneFails(str(error)) if len(inputs) > 1 else RowRefused(0, str(error)) from error
        except (LaneFailed, DeadlineExceeded) as error:  # it may be one of the inputs that is too much
            if len(inputs) == 1:
                raise RowRefused(0, str(error)) from error
            raise TryLater(str(error), 0.1) from error
        except ModelApiError as error:
            raise TryLater(str(error), 0.1) from error

    def answers(self, inputs: Sequence[Any], context: CallContext) -> list[Any]:
        """One per input, as JSON has it. Raises what the service does."""
        found = self._service.predict(self._model, inputs, self._parameters, context)
        return list(orjson.loads(orjson.dumps(list(found.predictions), option=orjson.OPT_SERIALIZE_NUMPY)))

    def close(self) -> None:
        stop = getattr(self._service, "stop", None)
        if stop:
            stop()
