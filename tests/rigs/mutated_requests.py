"""Requests that are almost right: mutated on the wire, each by a number that makes it again, and what came back.

data = mutated(4711)
received = exchange(port, data, half_close=True)
assert not faults(data, received)
"""

import gzip
import http.client
import io
import json
import random
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

_SIM = b'{"target": "a cat", "texts": ["a kitten", "tea"]}'
_PREDICT = b'{"model": "tiny", "inputs": ["the cat", "rain"], "parameters": {"normalize": true}}'
_BODIES = (
    (b"/sim", _SIM),
    (b"/predict", _PREDICT),
    (b"/score", b'{"predictions": ["a b"], "targets": ["a c"]}'),
    (b"/jobs", b'{"kind": "predict", "model": "tiny", "inputs": ["a"], "ttl_s": 60}'),
    (b"/uploads", b'{"content_type": "text/csv", "size": 10}'),
)
_JSON = b"Content-Type: application/json\r\n"
_HOST = b"Host: localhost\r\n"
_NAMES = (
    *(b"Content-Length", b"Transfer-Encoding", b"Content-Type", b"Content-Encoding", b"Connection", b"Expect"),
    *(b"Host", b"Upgrade", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Request-Id", b"Accept-Encoding", b"Prefer"),
    *(b"Cache-Control", b"Idempotency-Key", b"Range", b"If-None-Match", b"Authorization", b"Cookie", b"Accept"),
    *(b"Origin", b""),
)
_VALUES = (
    *(b"", b" ", b"0", b"-1", b"+5", b"5, 5", b"0x10", b"99999999999999999999", b"1e3", b"chunked", b"Chunked "),
    *(b"gzip", b"gzip, chunked", b"identity", b"close", b"keep-alive", b"100-continue", b"websocket", b"h2c"),
    *(b"\xff\xfe", b"\t", b"a" * 300, b"a" * 9000, b"application/json; charset=latin-1", b"text/html, */*;q=0.1"),
    *(b"::1", b"1.2.3.4, 5.6.7.8", b"respond-async, wait=0", b"wait=-1", b"respond-async; wait=x", b"bytes=0-"),
    *(b"*", b"no-cache", b'"x"', b"null"),
)
_TOKENS = (
    *(b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b":", b" ", b"\t", b"%00", b"%", b"%ff", b"/../", b"//", b"?"),
    *(b"#", b"\x80", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"HTTP/1.1", b"HTTP/2.0", b"{", b"}", b"["),
    *(b"]", b'"', b"\\", b"\\ud800", b"NaN", b"1e999", b"-0", b"null", b"true", b"0" * 30, b"[" * 70, b"a" * 5000),
    b"\x16\x03\x01",
)
_METHODS = (
    *(b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"get", b""),
    *(b"G\xc4T", b"A" * 40),
)
_TARGETS = (
    *(b"/", b"/healthz", b"/models", b"/models/tiny", b"/docs", b"/metrics", b"*", b"", b"//", b"/%2e%2e/", b"/\xff"),
    *(b"http://localhost/healthz", b"/sim/", b"/uploads/../x", b"/openapi.json?x=%zz", b"/jobs/x", b"/" + b"a" * 5000),
)
_READ = (b"/", b"/healthz", b"/readyz", b"/models", b"/models/tiny", b"/jobs", b"/openapi.json", b"/metrics")
_STRINGS = ("", "\0", "é漢😀", "a" * 5000, "\ud800", "tiny@", "../..", "minilm@canary", "NaN")
_ODD: tuple[object, ...] = (None, True, -1, 0, 1e308, 2**70, [], {}, [[]], {"": 0}, *_STRINGS)


def _request(r: random.Random) -> bytes:
    """A right one."""
    if r.random() < 0.25:
        path = r.choice(_READ)
        return r.choice([b"GET ", b"GET ", b"OPTIONS ", b"DELETE "]) + path + b" HTTP/1.1\r\n" + _HOST + b"\r\n"
    path, body = r.choice(_BODIES)
    if r.random() < 0.4:
        body = _odd_json(r, body)
    head = b"POST " + path + b" HTTP/1.1\r\n" + _HOST + _JSON
    if r.random() < 0.15:
        body, head = gzip.compress(body, 1, mtime=0), head + b"Content-Encoding: gzip\r\n"
    if r.random() < 0.2:
        cut = r.randrange(len(body))
        chunks = [piece for piece in (body[:cut], body[cut:]) if piece]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*chunks, b""])
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + body
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _odd_json(r: random.Random, body: bytes) -> bytes:
    """One value or key is another."""
    document = json.loads(body)
    place = document
    key = r.choice(list(place))
    while isinstance(place[key], dict | list) and place[key] and r.random() < 0.6:
        place = place[key]
        key = r.choice(list(place)) if isinstance(place, dict) else r.randrange(len(place))
    if isinstance(place, dict) and r.random() < 0.3:
        place[r.choice(_STRINGS)] = place.pop(key)
    else:
        place[key] = r.choice(_ODD)
    return json.dumps(document, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass")


def _spliced(r: random.Random, data: bytes) -> bytes:
    at = r.randrange(len(data) + 1)
    until = min(len(data), at + r.choice([0, 0, 1, 4, 20]))
    return data[:at] + r.choice(_TOKENS) + data[until:]


def _flipped(r: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 8])):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return bytes(changed)


def _cut(r: random.Random, data: bytes) -> bytes:
    return data[: r.randrange(len(data))]


def _head_line(r: random.Random, data: bytes) -> bytes:
    """A header more, or in place of another, or twice, or gone."""
    head, end, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    line = r.choice(_NAMES) + r.choice([b": ", b":", b" : ", b":\t"]) + r.choice(_VALUES)
    at = r.randrange(1, len(lines) + 1)
    how = r.randrange(4)
    if how == 0:
        lines.insert(at, line)
    elif how == 1 and len(lines) > 1:
        lines[at - 1 if at > 1 else 1] = line
    elif how == 2:
        lines.insert(at, r.choice(lines))
    elif len(lines) > 1:
        lines.pop(at - 1 if at > 1 else 1)
    return b"\r\n".join(lines) + end + body


def _first_line(r: random.Random, data: bytes) -> bytes:
    line, end, rest = data.partition(b"\r\n")
    words = line.split(b" ")
    at = r.randrange(len(words))
    words[at] = r.choice((_METHODS, _TARGETS, (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b""))[min(at, 2)])
    return b" ".join(words) + end + rest


def _many_lines(r: random.Random, data: bytes) -> bytes:
    head, end, body = data.partition(b"\r\n\r\n")
    return head + b"".join(b"\r\nX-%d: y" % i for i in range(r.choice([50, 99, 101, 500]))) + end + body


def _ahead(r: random.Random, data: bytes) -> bytes:
    return data * r.choice([2, 3, 20]) if r.random() < 0.5 else data + mutated(r.randrange(1 << 30))


_MUTATIONS = (*(_spliced, _flipped, _cut, _head_line, _head_line, _first_line, _many_lines, _ahead),)


def mutated(number: int) -> bytes:
    """The request of that number: the same ever after."""
    r = random.Random(number)
    data = _request(r)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        data = r.choice(_MUTATIONS)(r, data) or b"\n"
    return data


# --- What came back ---------------------------------------------------------------------------------------------------


def exchange(port: int, data: bytes, *, half_close: bool, patience_s: float = 1.0, timeout_s: float = 45.0) -> bytes:
    """All that the server says to `data`.

    It is told that no more will come at once, if `half_close`, else after `patience_s` of silence: a proxy takes the
    end of what is sent for a caller who left. Raises TimeoutError where the server neither answers nor ends it then.
    """
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        deadline = time.monotonic() + timeout_s
        closed = False
        try:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
                closed = True
            while time.monotonic() < deadline:
                connection.settimeout(timeout_s if closed else patience_s)
                try:
                    part = connection.recv(1 << 16)
                except TimeoutError:
                    if closed:
                        raise
                    connection.shutdown(socket.SHUT_WR)
                    closed = True
                    continue
                if not part:
                    return bytes(received)
                received += part
        except ConnectionError:  # it stopped reading: what it said before counts
            return bytes(received)
    raise TimeoutError("it goes on and on")


class _Socket:
    """What http.client takes an answer from: several, one after the other."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self._stream = stream

    def makefile(self, *_: object) -> io.BufferedIOBase:
        return self._stream


class _Kept(io.BytesIO):
    """http.client closes what it has read to an answer's end."""

    def close(self) -> None:
        """Not yet."""


@dataclass(frozen=True)
class Answered:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def answers(received: bytes, *, to_head: bool = False) -> tuple[Sequence[Answered], bytes]:
    """As the standard library's client reads them, and what follows the last. HTTPException for what it can't read."""
    stream = _Kept(received)
    found = []
    while received.startswith(b"HTTP/", stream.tell()):
        response = http.client.HTTPResponse(_Socket(stream), method="HEAD" if to_head else "GET")  # type: ignore[arg-type]
        try:
            response.begin()
        except http.client.RemoteDisconnected:
            break  # after an interim answer
        found.append(Answered(response.status, response.headers, response.read()))
    return found, stream.read()


_NEVER = {301, 302, 307, 308, 500, 502, 504}  # what no request should bring about: a redirect's page is nobody's JSON


def faults(data: bytes, received: bytes, *, through_nginx: bool = False) -> list[str]:
    """What is wrong with the answers to a request; [] for none at all, and for none given.

    nginx answers a line that names no version as HTTP/0.9 had it: the body alone, and the end.
    """
    try:
        found, rest = answers(received, to_head=b"HEAD " in data)
        if rest and not through_nginx:
            return [f"not HTTP: {rest[:80]!r}"]
        if rest.startswith(b"<html"):  # nginx's own; this project's pages begin otherwise
            return [f"a page: {rest[:80]!r}"]
    except (http.client.HTTPException, ValueError) as error:
        return [f"unreadable: {error!r}"]
    wrong = []
    for answer in found:
        if answer.status in _NEVER or not 100 <= answer.status < 600:
            wrong.append(f"status {answer.status}")
        if answer.status >= 400 and b"HEAD " not in data:
            wrong += _problem_faults(answer)
        for name in ("Content-Type", "Content-Length", "X-Request-Id"):
            if len(answer.headers.get_all(name, [])) > 1:
                wrong.append(f"{name} twice")
    return wrong


def _problem_faults(answer: Answered) -> list[str]:
    if answer.headers["Content-Type"] not in ("application/problem+json", "application/json; charset=utf-8"):
        return [f"{answer.status} as {answer.headers['Content-Type']}"]
    try:
        document = json.loads(answer.body)
    except ValueError:
        return [f"{answer.status} without JSON"]
    return [] if document.get("status") == answer.status else [f"{answer.status} says {document.get('status')}"]
