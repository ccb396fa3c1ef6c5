"""What a body holds is counted before it is parsed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.errors import MalformedRequest
from model_api.web import json_bodies
from model_api.web.json_bodies import MAX_DEPTH, MAX_ELEMENTS, measure, parse_object


@pytest.mark.parametrize("opening, closing", [(b"[", b"]"), (b'{"a":', b"}")])
def test_depth_is_bounded_and_brackets_in_texts_are_not_depth(opening: bytes, closing: bytes) -> None:
    deepest = opening * MAX_DEPTH + b"1" + closing * MAX_DEPTH
    assert parse_object(deepest)
    with pytest.raises(MalformedRequest, match="levels deep"):
        parse_object(opening + deepest + closing)
    assert parse_object(b'["' + b"[{" * 500 + b'"]')
    assert parse_object(b"[" + b",".join([b"[[1]]"] * 500) + b"]")


@pytest.mark.parametrize("element", [b"[]", b"{}", b"0", b'""', b'{"a":[]}'])
def test_the_number_of_values_is_bounded(element: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(body: bytes) -> Any:
        raise AssertionError("was parsed")

    monkeypatch.setattr("model_api.web.json_bodies.orjson.loads", never)
    with pytest.raises(MalformedRequest, match="values"):
        parse_object(b"[" + element + (b"," + element) * MAX_ELEMENTS + b"]")


def test_commas_in_texts_are_no_values() -> None:
    assert parse_object(json.dumps(["a, b" * MAX_ELEMENTS, '\\"[,'] * 2).encode())


values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='a"\\[]{},:\n', max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='"\\[]', max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def counted(value: Any, depth: int = 0) -> tuple[int, int]:
    """Arrays, objects and what is in them but for the first of each; and the depth."""
    if not isinstance(value, list | dict):
        return 0, depth
    inner = [counted(child, depth + 1) for child in (value.values() if isinstance(value, dict) else value)]
    own = 1 + max(0, len(value) - 1)
    return own + sum(n for n, _ in inner), max([depth + 1, *(d for _, d in inner)])


@given(values, st.integers(1, 9))
def test_the_measure_is_exact_for_json(value: Any, block_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_bodies, "_BLOCK_BYTES", block_bytes)
        assert measure(json.dumps(value).encode()) == counted(value)


@given(st.binary(max_size=60))
def test_anything_can_be_measured(body: bytes) -> None:
    elements, depth = measure(body)
    assert 0 <= depth <= elements or depth <= 0
