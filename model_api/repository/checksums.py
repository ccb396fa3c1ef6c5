"""SHA256SUMS: what lies in a folder, as its author's own tools wrote it.

Read are the lists of sha256sum (text, binary, escaped and --tag), of BSD's and macOS's shasum and of PowerShell, in
UTF-8 or UTF-16, with any line ends. Stdlib only, Python 3.9: the publisher's far side runs it too.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping

from model_api.errors import Refused
from model_api.repository.ignored_names import is_ignored
from model_api.repository.manifest import MANIFEST_NAME, check_path

SUMS_NAME = "SHA256SUMS"
MAX_SUMS_BYTES = 4 * 2**20
_ENCODINGS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_LISTED = re.compile(r"(\\?)([0-9a-fA-F]{64})(?: [ *]| +|\t+)(\S.*)")
_ESCAPED = re.compile(r"\\[\\nr]")
_TAGGED = re.compile(r"(\\?)SHA-?256 \((.+)\) ?= ?([0-9a-fA-F]{64})", re.IGNORECASE)
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def parse_sums(data: bytes) -> dict[str, str]:
    """path -> sha256 in lower case, without the describing files and what is ignored in a model. Raises Refused naming
    SHA256SUMS."""
    sums: dict[str, str] = {}
    for line in _decode(data).splitlines():
        text = line.strip("\ufeff \t\0")
        if not text or text.startswith("#"):
            continue
        path, sha256 = _parse_line(text)
        if path in (SUMS_NAME, MANIFEST_NAME) or is_ignored(check_path(path)):
            continue
        if sums.setdefault(path, sha256) != sha256:
            raise Refused(SUMS_NAME, f"lists {path} twice, with different sums")
    if not sums:
        raise Refused(SUMS_NAME, "lists no files")
    return sums


def compare_sums(have: Mapping[str, str], listed: Mapping[str, str], seal: str) -> None:
    """Raises Refused naming the first path that differs; `seal` is where `listed` was read."""
    for path in sorted({*have, *listed}):
        if path not in have:
            raise Refused(path, f"missing; {seal} lists it")
        if path not in listed:
            raise Refused(path, f"not in {seal}; write that anew when the copy is complete")
        if have[path] != listed[path]:
            raise Refused(path, f"does not match {seal}")


def format_sums(entries: Iterable[tuple[str, str]]) -> str:
    """The text of SHA256SUMS from (path, sha256)."""
    return "".join(f"{sha256}  {path}\n" for path, sha256 in entries)


def _decode(data: bytes) -> str:
    for mark, encoding in _ENCODINGS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if data[1:2] == b"\0":  # UTF-16 without its mark: the sums begin with a hexadecimal digit
        return data.decode("utf-16-le", "replace")
    if data[:1] == b"\0":
        return data.decode("utf-16-be", "replace")
    return data.decode("utf-8", "replace")


def _parse_line(line: str) -> tuple[str, str]:
    """Path and sum of one line. Raises Refused."""
    if match := _LISTED.fullmatch(line):
        escaped, sha256, path = match.groups()
    elif match := _TAGGED.fullmatch(line):
        escaped, path, sha256 = match.groups()
    else:
        raise Refused(SUMS_NAME, f"line {line[:80]!r} is not from sha256sum")
    if escaped:
        path = _ESCAPED.sub(lambda found: _ESCAPES[found.group()], path)
    elif "\\" in path:  # sha256sum escapes a real one, so this list was made on Windows
        path = path.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:]
    return path, sha256.lower()
