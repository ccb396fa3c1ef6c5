from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_api.tasks.text.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Lee owes J. Doe 3.50, e.g. for tea. He left.", ["Dr. Lee owes J. Doe 3.50, e.g. for tea.", "He left."]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("no end and no capital", ["no end and no capital"]),
        ("A title\n\nA text. more of it", ["A title", "A text. more of it"]),
        ("これは文です。次の文！", ["これは文です。", "次の文！"]),
        ("Мост закрыт. Когда откроют?", ["Мост закрыт.", "Когда откроют?"]),
        ("  spaced .  Out  ", ["spaced .", "Out"]),
        ("One.\n\n\u200b \ufeff\n\nTwo.", ["One.", "Two."]),
        ("\u200b", []),
    ],
)  # fmt: skip
def test_splits(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


@given(st.text(alphabet="aB .!?\n。\"'", max_size=80))
def test_every_letter_is_in_exactly_one_sentence(text: str) -> None:
    spans = split_sentences(text)
    assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
