"""Where pipelines read from: files and URLs that the settings allow, and nothing else.

A URL is allowed by scheme, host, port and the beginning of its path; its host's addresses must be public ones; and so
must every address that a redirect leads to. What is asked is connected to by the address that was checked.
"""

import contextlib
import http.client
import re
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from model_api.errors import InvalidInput, JobsDown
from model_api.jobs.notices import Network, NotPublic, PinnedConnection, public_addresses

MAX_REDIRECTS = 3
TOTAL_TIMEOUT_S = 120.0
CHUNK_BYTES = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 429, 500, 502, 503, 504)
PLACE = "/pipeline"
_URL_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,31}://")


def fetch(source: str, target: BinaryIO, *, allowed: Sequence[str], networks: Sequence[Network], max_bytes: int) -> int:
    """Copy it to `target`; how many bytes. Raises InvalidInput for what may not be read, or can't be ever; JobsDown for
    what may pass."""
    if _URL_START.match(source):
        return _fetch_url(source, target, allowed, networks, max_bytes)
    return _copy_file(Path(source), target, [Path(one) for one in allowed if one.startswith("/")], max_bytes)


def is_allowed(url: str, allowed: Sequence[str]) -> bool:
    """Whether one of `allowed` is a beginning of that URL, by whole parts of its path."""
    asked = _split(url)
    if asked is None:
        return False
    for text in allowed:
        begin = _split(text)
        if begin is None or _server(begin) != _server(asked):
            continue
        folder = begin.path if begin.path.endswith("/") else begin.path + "/"
        if asked.path == begin.path or asked.path.startswith(folder) or folder == "/":
            return True
    return False


def _split(url: str) -> SplitResult | None:
    """None for what is no plain http(s) URL: with a name and password, or with a path that climbs."""
    try:
        parts = urlsplit(url)
        _port(parts)
    except ValueError:
        return None
    plain = url.isascii() and not any(character <= " " or character == "\\" for character in url)
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    return None if {".", ".."} & set(unquote(parts.path).split("/")) else parts


def _server(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, _port(parts)


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _fetch_url(url: str, target: BinaryIO, allowed: Sequence[str], networks: Sequence[Network], max_bytes: int) -> int:
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    for _ in range(MAX_REDIRECTS + 1):
        if not is_allowed(url, allowed):
            raise InvalidInput(f"{_shown(url)} is not among MODEL_API_SOURCES", PLACE)
        try:
            with contextlib.closing(_connection(url, networks)) as connection:
                parts = urlsplit(url)
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                headers = {"User-Agent": "model-api", "Accept-Encoding": "identity", "Connection": "close"}
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                if answer.status in _REDIRECTS and (location := answer.headers.get("Location")):
                    url = urljoin(url, location)
                    continue
                return _read(answer, target, _shown(url), max_bytes, deadline)
        except NotPublic as error:
            raise InvalidInput(str(error), PLACE) from None
        except (OSError, http.client.HTTPException) as error:
            raise JobsDown(f"{_shown(url)} can't be read now ({type(error).__name__})") from error
    raise InvalidInput(f"{_shown(url)}: more than {MAX_REDIRECTS} redirects", PLACE)


def _connection(url: str, networks: Sequence[Network]) -> PinnedConnection:
    parts = urlsplit(url)
    host = str(parts.hostname)
    address = public_addresses(host, _port(parts), networks)[0]
    secure = parts.scheme == "https"
    return PinnedConnection(host, _port(parts), address, ssl.create_default_context() if secure else None)


def _read(answer: http.client.HTTPResponse, target: BinaryIO, shown: str, max_bytes: int, deadline: float) -> int:
    if answer.status in _PASSING:
        raise JobsDown(f"{shown} answers {answer.status}")
    if answer.status != 200:
        raise InvalidInput(f"{shown} answers {answer.status}", PLACE)
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidInput(f"{shown} sends {answer.headers['Content-Encoding']}, though it was asked not to", PLACE)
    written = 0
    while chunk := answer.read(CHUNK_BYTES):
        written += len(chunk)
        if written > max_bytes:
            raise InvalidInput(f"{shown} is larger than {max_bytes} bytes", PLACE)
        if time.monotonic() > deadline:
            raise JobsDown(f"{shown} takes longer than {TOTAL_TIMEOUT_S:.0f} s")
        target.write(chunk)
    return written


def _copy_file(file: Path, target: BinaryIO, folders: Sequence[Path], max_bytes: int) -> int:
    """Links are followed first: what counts is where the file really lies."""
    try:
        real = file.resolve(strict=True)
        inside = any(real.is_relative_to(folder.resolve()) for folder in folders)
        if not file.is_absolute() or not inside or not real.is_file():
            raise InvalidInput(f"{file} is no file among MODEL_API_SOURCES", PLACE)
        with real.open("rb") as stream:
            written = 0
            while chunk := stream.read(CHUNK_BYTES):
                written += len(chunk)
                if written > max_bytes:
                    raise InvalidInput(f"{file} is larger than {max_bytes} bytes", PLACE)
                target.write(chunk)
            return written
    except FileNotFoundError:
        raise InvalidInput(f"{file} is no file among MODEL_API_SOURCES", PLACE) from None
    except OSError as error:
        raise JobsDown(f"{file} can't be read now ({error.strerror})") from error


def _shown(url: str) -> str:
    """Without its query, which may hold a key."""
    return url.partition("?")[0][:200]
