"""gzip in and out, bounded by what comes out."""

import contextlib
import gzip
import json
import zlib
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import MalformedRequest
from model_api.web.compression import InflatesTooFar, accepts_gzip, deflate, inflate
from tests.rigs.stand_in_service import stand_in_app

SIM = {"target": "a", "texts": ["b", "c"]}
COMPRESSED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


@pytest.fixture
def client() -> FlaskClient:
    return stand_in_app(max_body_bytes=50_000)[0].test_client()


def post(client: FlaskClient, body: bytes, **headers: str) -> Any:
    return client.post("/sim", data=body, headers={**COMPRESSED, **headers})


def test_a_compressed_body_is_taken(client: FlaskClient) -> None:
    assert post(client, gzip.compress(json.dumps(SIM).encode())).get_json()["context"]["target"] == "a"


def test_the_limit_counts_what_comes_out(client: FlaskClient) -> None:
    bomb = gzip.compress(b'{"target": "' + b"a" * 10_000_000 + b'"}')
    assert len(bomb) < 20_000
    assert post(client, bomb).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{}", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"x", b"\x1f\x8b" * 9])
def test_what_is_not_gzip_is_named(client: FlaskClient, body: bytes) -> None:
    response = post(client, body)
    assert response.status_code == 400
    assert "gzip" in response.get_json()["detail"]


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_other_encodings_are_named(client: FlaskClient, encoding: str) -> None:
    assert post(client, b"{}", **{"Content-Encoding": encoding}).status_code == 415


def test_a_large_answer_is_compressed_for_who_asks(client: FlaskClient) -> None:
    body = {"target": "a", "texts": ["word " * 100] * 90}
    plain = client.post("/sim", json=body)
    packed = client.post("/sim", json=body, headers={"Accept-Encoding": "gzip, br"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert len(packed.data) < len(plain.data) / 2
    assert packed.content_length == len(packed.data)
    assert gzip.decompress(packed.data) == plain.data
    small = client.post("/sim", json=SIM, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("GZIP", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_who_asks_for_gzip(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@given(st.binary(max_size=5000))
def test_what_was_deflated_comes_out(body: bytes) -> None:
    assert inflate(deflate(body), 5000) == body


@given(st.binary(max_size=200))
def test_any_bytes_inflate_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedRequest, InflatesTooFar):
        inflated = inflate(body, 10_000)
        assert zlib.decompressobj(31).decompress(body) == inflated


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (json.dumps(SIM).encode("utf-16"), "UTF-16"),
        (json.dumps(SIM).encode("utf-16-be"), "UTF-16"),
        (json.dumps({"target": "é", "texts": []}, ensure_ascii=False).encode("latin-1"), "Latin-1"),
    ],
)
def test_other_character_encodings_are_named(client: FlaskClient, body: bytes, detail: str) -> None:
    response = client.post("/sim", data=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert detail in response.get_json()["detail"]


def test_a_byte_order_mark_before_utf_8_is_passed_over(client: FlaskClient) -> None:
    body = b"\xef\xbb\xbf" + json.dumps(SIM).encode()
    assert client.post("/sim", data=body, headers={"Content-Type": "application/json"}).status_code == 200
