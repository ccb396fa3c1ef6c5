"""Pairs of texts to rows of a model: [2, length], ids and token types. Never truncates silently."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_api.errors import InvalidInput
from model_api.tasks.contract import Array
from model_api.tasks.text.pair_frame import Ids, PairFrame, cut, read_frame
from model_api.tasks.text.tokenization import TextTokenizer

Cut = Callable[[int, int, int], tuple[int, int]]  # tokens of both and the room for them -> how many of each are kept


@dataclass(frozen=True)
class TextPair:
    """`second` is None for a text alone; `places` are the JSON pointers of both."""

    first: Any
    second: Any
    places: tuple[str, str]


def read_pair(one: Any, pointer: str) -> TextPair:
    """A text, {"text", "text_pair"} or [text, text_pair]; the texts themselves aren't looked at. Raises
    InvalidInput."""
    if isinstance(one, list):
        if len(one) != 2:
            raise InvalidInput(f"a list of {len(one)} is no pair: send [text, text_pair]", pointer)
        return TextPair(one[0], one[1], (f"{pointer}/0", f"{pointer}/1"))
    if isinstance(one, dict):
        if "text" not in one or not one.keys() <= {"text", "text_pair"}:
            raise InvalidInput('must be a text, {"text", "text_pair"} or [text, text_pair]', pointer)
        return TextPair(one["text"], one.get("text_pair"), (f"{pointer}/text", f"{pointer}/text_pair"))
    return TextPair(one, None, (pointer, pointer))


class PairTokenizer:
    """Safe on many threads: nothing about it changes after construction."""

    def __init__(self, tokenizer: TextTokenizer, root: Path) -> None:
        """`root`: where the transformer lies. Raises Refused where the frame of its pairs wasn't written down."""
        self._tokenizer = tokenizer
        self._frame: PairFrame = read_frame(root)

    @property
    def room(self) -> int:
        """How many tokens of two texts there is room for."""
        return self._tokenizer.max_tokens - self._frame.n_special

    @property
    def frame(self) -> PairFrame:
        return self._frame

    def encode(self, pairs: Sequence[TextPair], truncate: bool, how: Cut = cut) -> tuple[list[Array], list[int]]:
        """Rows, and the indices of the pairs that were cut. Raises InvalidInput at a text's place."""
        if not pairs:
            return [], []
        texts = [text for pair in pairs for text in (pair.first, pair.second)]
        ids = self._tokenizer.encode_bare(texts, [place for pair in pairs for place in pair.places])
        rows, truncated = [], []
        for index, pair in enumerate(pairs):
            row, was_cut = self.join(ids[2 * index], ids[2 * index + 1], pair.places[1], truncate, how)
            rows.append(row)
            truncated += [index] * was_cut
        return rows, truncated

    def join(self, first: Ids, second: Ids, place: str, truncate: bool, how: Cut = cut) -> tuple[Array, bool]:
        """The row of two texts' bare ids, and whether they were cut. Raises InvalidInput at `place`."""
        kept = how(len(first), len(second), self.room)
        was_cut = kept != (len(first), len(second))
        if (was_cut and not truncate) or min(kept) < 1:
            told = f"the two texts have {len(first)} + {len(second)} tokens, the model takes {self.room} of both"
            raise InvalidInput(f'{told}; shorten them or send "parameters": {{"truncate": true}}', place)
        return self._frame.put(first[: kept[0]], second[: kept[1]]), was_cut
