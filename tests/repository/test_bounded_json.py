"""The one reader of JSON that anybody may have written, and of the files that it lies in."""

import json
import math
import os
import socket
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import Refused
from model_api.repository.bounded_files import read_bounded
from model_api.repository.bounded_json import MAX_DEPTH, BadJson, parse_json, read_json, whole_number

MAX_BYTES = 2**20

documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(string.printable, max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(documents)
def test_what_is_within_the_bounds_is_read_as_json_reads_it(document: Any) -> None:
    text = json.dumps(document, ensure_ascii=False)
    assert parse_json(text, MAX_BYTES) == document
    assert parse_json(text.encode(), MAX_BYTES) == document
    assert parse_json(b"\xef\xbb\xbf" + text.encode(), MAX_BYTES) == document


@given(st.binary(max_size=200) | st.text('[]{}",:\\u0123456789dDeE+-.nulltruefalseNaNInfinity \ud800', max_size=80))
def test_anything_else_is_bad_json_and_nothing_worse(data: bytes | str) -> None:
    document, told = None, ""
    try:
        document = parse_json(data, MAX_BYTES)
    except BadJson as error:
        told = str(error)
    assert (document is None) or not told
    assert "\n" not in told
    json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("[" * 100_000, "nested deeper"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested deeper"),
        ('{"n": 1e999}', "isn't finite"),
        ('{"n": NaN}', "isn't finite"),
        ('{"n": -Infinity}', "isn't finite"),
        ('{"n": 1' + "0" * 400 + "}", "more than 40 digits"),
        ('{"n": 1' + "0" * 10_000 + "}", "not JSON"),
        ('{"t": "\\ud800"}', "half a character"),
        ('{"\\udfff": 1}', "half a character"),
        (b'{"t": "\xe9vil"}', "not UTF-8"),
        ('{"t": 1}'.encode("utf-16"), "not UTF-8"),
        ("x" * (MAX_BYTES + 1), "at most 1 MB"),
        ("", "not JSON"),
    ],
)
def test_each_bound_is_named(data: bytes | str, reason: str) -> None:
    with pytest.raises(BadJson, match=reason):
        parse_json(data, MAX_BYTES)


def test_the_deepest_that_is_read(tmp_path: Path) -> None:
    text = "[" * (MAX_DEPTH - 1) + "1" + "]" * (MAX_DEPTH - 1)
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json", MAX_BYTES) == json.loads(text)


def test_whatever_lies_under_a_name_is_refused_by_kind(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("{}")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "inside").symlink_to(real)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for name, reason in {
            "link": "a symbolic link",
            "inside": "a symbolic link",
            "pipe": "a pipe, not a file",
            "folder": "a folder, not a file",
            "socket": "a socket, not a file",
        }.items():
            with pytest.raises(Refused, match=reason) as refused:
                read_bounded(tmp_path / name, 100)
            assert refused.value.path == name
    with pytest.raises(Refused, match="a device"):
        read_bounded(Path("/dev/zero"), 100)
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "absent", 100)


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "sparse.json"
    with file.open("wb") as stream:
        stream.truncate(300 * 10**6)
    with pytest.raises(Refused, match="300 MB long; at most 1 MB"):
        read_json(file, MAX_BYTES)
    with pytest.raises(Refused, match="longer than"):  # its length is only known by reading
        read_bounded(Path("/proc/self/smaps"), 100)


@pytest.mark.parametrize("raw", [True, 1.0, "1", None, [], -1, 11, 10**400, math.inf])
def test_a_whole_number_has_its_range(raw: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        whole_number(raw, "size", 0, 10)
    assert whole_number(7, "size", 0, 10) == 7
