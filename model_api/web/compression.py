"""gzip: bodies that come compressed, and large answers for those who ask for that."""

import zlib

from model_api.errors import MalformedRequest

MIN_BYTES = 32 * 1024  # smaller answers fit into a few packets as they are
LEVEL = 1  # on vectors in JSON higher levels save 2 % more and take twice the time
_GZIP = 31  # zlib's wbits for gzip with the largest window


class InflatesTooFar(Exception):
    """There is more in it than is taken."""


def inflate(body: bytes, max_bytes: int) -> bytes:
    """The content of a gzip body. Raises MalformedRequest, and InflatesTooFar before more than `max_bytes` are made."""
    stream = zlib.decompressobj(_GZIP)
    try:
        content = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedRequest("the body is not valid gzip, though Content-Encoding says so") from error
    if len(content) > max_bytes:
        raise InflatesTooFar
    if not stream.eof:
        raise MalformedRequest("the gzip body ends early")
    if stream.unused_data:
        raise MalformedRequest("something follows the gzip body")
    return content


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header names gzip, and doesn't rule it out (RFC 9110, 12.5.3)."""
    for part in accept_encoding.lower().split(","):
        name, _, parameters = part.partition(";")
        if name.strip() in ("gzip", "x-gzip", "*"):
            weight = parameters.partition("q=")[2].strip()
            return weight.strip("0.") != "" or not weight
    return False


def deflate(body: bytes) -> bytes:
    """As gzip. Lets go of the interpreter's lock while it works."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    return stream.compress(body) + stream.flush()
