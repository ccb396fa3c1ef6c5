"""A safetensors header says what it likes: tensors that fill the file, or a refusal that costs nothing."""

import contextlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from model_api.errors import Refused
from model_api.repository.safetensors_header import DTYPE_BITS, MAX_HEADER_BYTES, read_tensors

LARGE: st.SearchStrategy[Any] = st.sampled_from(
    [0, 1, -1, 4, 2**31, 2**62, 2**63 - 1, 2**63, 10**400, True, 1.5, None, "4", [], {}]
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*DTYPE_BITS, "F33", 1, None]),
        "shape": st.lists(LARGE | st.integers(0, 4), max_size=10) | LARGE,
        "data_offsets": st.lists(LARGE | st.integers(0, 16), max_size=3) | LARGE,
    },
)


def write(file: Path, header: bytes, content: bytes = b"", length: int | None = None) -> Path:
    file.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + content)
    return file


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.dictionaries(st.text(max_size=5), ENTRY, max_size=4), n_bytes=st.integers(0, 32))
def test_whatever_a_header_promises_is_there_or_it_is_refused(
    tmp_path: Path, header: Mapping[str, Any], n_bytes: int
) -> None:
    file = write(tmp_path / "model.safetensors", json.dumps(header).encode(), bytes(n_bytes))
    try:
        tensors = read_tensors(file, "model.safetensors")
    except Refused:
        return
    assert sum(tensor.n_bytes for tensor in tensors) == n_bytes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=64), st.integers(0, 2**64 - 1) | st.none())
def test_any_bytes_are_refused_or_read(tmp_path: Path, header: bytes, length: int | None) -> None:
    file = write(tmp_path / "model.safetensors", header, length=length)
    with contextlib.suppress(Refused):
        assert read_tensors(file, "model.safetensors") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abc.", min_size=1), st.lists(st.integers(0, 3), max_size=8), min_size=1, max_size=4))
def test_what_the_format_s_own_library_writes_is_read(tmp_path: Path, shapes: Mapping[str, list[int]]) -> None:
    file = tmp_path / "model.safetensors"
    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, file)
    assert {t.name: t.shape for t in read_tensors(file, "x")} == {n: a.shape for n, a in load_file(file).items()}


def bomb(shape: str) -> bytes:
    return f'{{"t":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,4]}}}}'.encode()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (bomb(",".join(["9" * 4299] * 700)), "digits"),
        (bomb(",".join(["9" * 18] * 2500)), "2500 dimensions"),
        (bomb(",".join(["1"] * 9)), "9 dimensions"),
        (bomb(",".join([str(2**63 - 1)] * 8)), "don't fit its shape"),
        (b'{"t":' * 100_000, "nested deeper"),
        (b'{"t":' + b"[" * 3_000_000, "nested deeper"),
        (b'{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"t":1}', "twice"),
    ],
    ids=["digits", "many dimensions", "nine", "huge product", "deep objects", "deep lists", "twice"],
)
def test_bombs(tmp_path: Path, header: bytes, reason: str) -> None:
    file = write(tmp_path / "model.safetensors", header, bytes(4))
    with pytest.raises(Refused, match=reason):
        read_tensors(file, "model.safetensors")


def test_a_header_above_our_own_limit_is_not_even_read(tmp_path: Path) -> None:
    file = write(tmp_path / "model.safetensors", b"{}", length=MAX_HEADER_BYTES + 1)
    with pytest.raises(Refused, match="at most 8388608 are read"):
        read_tensors(file, "model.safetensors")
