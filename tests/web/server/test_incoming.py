"""From bytes to requests: what is refused leaves nothing behind, and any bytes are requests or a refusal."""

import gc
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.web.server.incoming import RequestReader
from model_api.web.server.refusals import RequestRefused

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_BODY_BYTES = 1 << 16
LONG = b"x" * 100_000
REFUSED = {
    "no HTTP": b"\x16\x03\x01" + LONG,
    "a long target": b"GET /" + LONG,
    "a long header": HEAD + b"X-Long: " + LONG,
    "blanks": HEAD + b"Accept: a" + b" " * 8000 + b"b\r\n\r\n" + LONG,
    "many headers": HEAD + b"X: y\r\n" * 20_000,
    "two lengths": HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + LONG,
    "a large body": HEAD + b"Content-Length: 99999\r\n\r\n" + LONG,
    "large chunks": CHUNKED + b"ffff0\r\n" + LONG,
    "no chunk": CHUNKED + LONG,
    "an expectation": HEAD + b"Expect: miracles\r\n\r\n" + LONG,
    "a coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + LONG,
    "requests ahead": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1000,
}


def reader() -> RequestReader:
    return RequestReader(MAX_BODY_BYTES, lambda request, n_bytes: True)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_leaves_nothing(what: str) -> None:
    """An exception that is kept would keep the frames that it went through, and the bytes in them."""

    def refuse() -> None:
        with pytest.raises(RequestRefused):
            reader().feed(bytes(bytearray(REFUSED[what])))  # bytes of its own

    refuse()
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            refuse()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10 * len(LONG)


PIECES = st.one_of(
    st.binary(max_size=64),
    st.sampled_from(
        [
            HEAD,
            CHUNKED,
            b"PUT /uploads/x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"GET http://x/ HTTP/1.0\r\n",
            b"Content-Length: 5\r\n",
            b"Expect: 100-continue\r\n",
            b"Connection: Upgrade, close\r\nUpgrade: h2c\r\n",
            b"\r\n",
            b"5\r\n{...}\r\n",
            b"0\r\n",
            b"0\r\nX-Trailer: y\r\n\r\n",
            b'3;ext="a\r\n"',
            b"GET / HTTP/1.1\r\n\r\n",
        ]
    ),
)


@given(st.lists(PIECES, max_size=12), st.booleans())
def test_any_bytes_are_requests_or_a_refusal(pieces: list[bytes], at_once: bool) -> None:
    one = reader()
    with suppress(RequestRefused):
        for piece in [b"".join(pieces)] if at_once else pieces:
            one.feed(piece)
    for request in one.complete:
        environ = request.environ({})
        assert environ["PATH_INFO"].startswith("/")
        assert len(environ["wsgi.input"].read()) <= MAX_BODY_BYTES
