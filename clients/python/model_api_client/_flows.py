"""What is to be asked, without saying how: generators that yield requests and pauses, and are sent responses.

A flow is written once and run by both clients, the one with asyncio and the one without.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO, Callable, TypeVar, Union

import httpx

from model_api_client._problems import problem_of
from model_api_client.errors import ModelApiError, Problem, TimedOut, UnexpectedAnswer, Unreachable

CHUNK_BYTES = 1 << 18
FIRST_PAUSE_S = 0.25
_JSON = ("application/json", "application/problem+json")

T = TypeVar("T")
Progress = Callable[[int, int], None]


class FileStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A file as a request's body, from its beginning each time it is sent. `progress(sent, total)` in bytes."""

    def __init__(self, path: Path, size_bytes: int, progress: Progress | None) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._progress = progress

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
                sent = self._tell(sent + len(chunk))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = 0
        with await asyncio.to_thread(self._path.open, "rb") as file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
                sent = self._tell(sent + len(chunk))

    def _tell(self, sent: int) -> int:
        if self._progress is not None:
            self._progress(sent, self._size_bytes)
        return sent


@dataclass(frozen=True)
class Request:
    """One request. `body` is sent as JSON, `stream` as it is; a good answer's body goes into `sink`, if there is one.

    `url` is a path of the server, or an address that the server gave. `is_repeatable`: sent again after a connection
    that broke, it does no harm.
    """

    method: str
    url: str
    body: Any = None
    stream: FileStream | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    sink: BinaryIO | None = None
    is_repeatable: bool = True

    def build(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Raises ValueError for a body that is no JSON, such as one with NaN or half a surrogate pair."""
        headers = dict(self.headers)
        content = None
        if self.body is not None:
            content = _dumps(self.body)
            headers["Content-Type"] = "application/json"
        built = client.build_request(
            self.method, self.url, params=self.params or None, headers=headers, content=content
        )
        if self.stream is None:
            return built
        sent = dict(built.headers)
        if _origin(built.url) != _origin(client.base_url):
            # An address in a bucket: neither the key nor anything else of ours is its business.
            sent = {**headers, "Host": built.headers["Host"]}
        return httpx.Request(self.method, built.url, headers=sent, stream=self.stream)


@dataclass(frozen=True)
class Pause:
    seconds: float


Flow = Generator[Union[Request, Pause], Any, T]


@dataclass(frozen=True)
class Patience:
    """How often a request is sent again, and within how many seconds."""

    retries: int
    within_s: float


def exchange(request: Request, patience: Patience) -> Flow[httpx.Response]:
    """The good answer to a request. Raises Problem, Unreachable or UnexpectedAnswer.

    It is sent again where the server says when to come back (503 and 429 with Retry-After), and where a connection
    broke that was made already; never where the answer would be the same.
    """
    give_up = time.monotonic() + patience.within_s
    for attempt in count():
        backoff_s = FIRST_PAUSE_S * 2**attempt
        pause_s: float | None
        fault: ModelApiError
        try:
            response: httpx.Response = yield request
        except httpx.TimeoutException as error:
            fault, pause_s = TimedOut(f"no answer in time: {type(error).__name__}"), None
        except httpx.ConnectError as error:
            fault, pause_s = Unreachable(f"can't connect: {_words(error)}"), None
        except httpx.RequestError as error:
            fault = Unreachable(f"the connection broke: {_words(error)}")
            pause_s = backoff_s if request.is_repeatable else None
        except httpx.InvalidURL as error:
            raise Unreachable(f"no such address: {_words(error)}") from None
        else:
            if response.is_success or response.status_code == 304:
                return response
            fault = fault_of(response)
            pause_s = None
            if isinstance(fault, Problem) and fault.status in (429, 503):
                pause_s = fault.retry_after_s
            elif isinstance(fault, UnexpectedAnswer) and fault.status == 503:
                pause_s = backoff_s  # a balancer without instances
        if pause_s is None or attempt >= patience.retries:
            raise fault
        pause_s *= 1 + random.random() / 4  # noqa: S311 - so that callers who were refused together don't return so
        if time.monotonic() + pause_s > give_up:
            raise fault
        yield Pause(pause_s)
    raise AssertionError("count() ends")


def fault_of(response: httpx.Response) -> ModelApiError:
    """What an answer says that is no good one."""
    status = response.status_code
    if _media_type(response) in _JSON:
        try:
            document = response.json()
        except ValueError:
            document = None
        if isinstance(document, dict) and "type" in document:
            return problem_of(status, document, response.headers)
    start = " ".join(response.text[:200].split())[:80]
    return UnexpectedAnswer(f"status {status} from something that is no Model API: {start}", status)


def document_of(response: httpx.Response) -> Any:
    """The JSON of a good answer. Raises UnexpectedAnswer."""
    try:
        if _media_type(response) == "application/json":
            return response.json()
    except ValueError:
        pass
    start = " ".join(response.text[:200].split())[:80]
    raise UnexpectedAnswer(f"no JSON from something that is no Model API: {start}", response.status_code)


def _media_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _dumps(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    """numpy's arrays and numbers become lists and numbers; iterables become lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (Iterator, set, frozenset, range)) or hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
