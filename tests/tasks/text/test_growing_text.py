"""Texts that grow: what is passed on is whole characters, never a stop string, and together it is all."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.tasks.text.growing_text import CUT_CHARACTER, GrowingText


def by_bytes(ids: Sequence[int]) -> str:
    """A tokenizer of bytes: each character beyond ASCII is several tokens."""
    return bytes(ids).decode(errors="replace")


def told(text: str, stop: Sequence[str] = (), prompt: str = "") -> tuple[list[str], GrowingText]:
    growing = GrowingText(by_bytes, list(prompt.encode()), stop)
    pieces = []
    for token in text.encode():
        pieces.append(growing.add(token))
        if growing.stopped:
            break
    return [*pieces, growing.end()], growing


@given(st.text(), st.text())
def test_the_pieces_are_the_text(text: str, prompt: str) -> None:
    text = text.replace(CUT_CHARACTER, "")
    pieces, growing = told(text, prompt=prompt)
    assert "".join(pieces) == growing.text == text
    assert all(CUT_CHARACTER not in piece for piece in pieces)


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3))
def test_it_ends_before_the_first_stop_string(text: str, stop: list[str]) -> None:
    pieces, growing = told(text, stop)
    places = [text.find(one) for one in stop if one in text]
    assert growing.stopped == bool(places)
    # Of two that end at different tokens, the one that is whole first ends it.
    first_end = min((text.find(one) + len(one) for one in stop if one in text), default=len(text))
    wanted = text[: min(text.find(one) for one in stop if one in text[:first_end])] if places else text
    assert "".join(pieces) == growing.text == wanted


def test_nothing_of_a_stop_string_is_told_before_it_is_whole() -> None:
    growing = GrowingText(by_bytes, [], ["END"])
    assert [growing.add(ord(c)) for c in "xENxE"] == ["x", "", "", "ENx", ""]
    assert growing.end() == "E"


def test_a_character_that_is_never_whole_is_told_at_the_end() -> None:
    growing = GrowingText(by_bytes, [], [])
    assert [growing.add(byte) for byte in "é".encode()[:1]] == [""]
    assert growing.end() == CUT_CHARACTER


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_prompt_that_ends_within_a_character(cut: int) -> None:
    whole = "🙂".encode()
    growing = GrowingText(by_bytes, list(b"ab" + whole[:cut]), [])
    pieces = [growing.add(byte) for byte in whole[cut:] + b"!"]
    assert "".join(pieces).endswith("!")
