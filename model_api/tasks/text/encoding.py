"""A model's tokenizer at work: texts to token ids and back. Either here, or in a process of the model's own.

Whatever the library or the model's tables do, panics included, is an error of this one text.
"""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, normalizers

from model_api.errors import DeadlineExceeded, ForwardFailed, Refused
from model_api.repository.loaded_files import TOKENIZER_FILE, reader_of
from model_api.repository.sentence_modules import read_modules
from model_api.tasks.text.chat_template import ChatTemplate, Messages
from model_api.tasks.text.settled_tokenizer import settled_file

MAX_CONFIG_BYTES = 4 * 2**20  # Gemma's tokenizer_config.json has 1.2 MB


_answer_by: ContextVar[float] = ContextVar("answer_by", default=math.inf)


@contextmanager
def answer_by(deadline: float) -> Iterator[None]:
    """Around what a request asks of an encoder, on the request's thread; `deadline` in time.monotonic() seconds."""
    token = _answer_by.set(deadline)
    try:
        yield
    finally:
        _answer_by.reset(token)


def time_left_s(at_most_s: float) -> float:
    """Until the request of this thread needs no answer any more. Raises DeadlineExceeded once that is so."""
    left_s = _answer_by.get() - time.monotonic()
    if left_s <= 0:
        raise DeadlineExceeded("no answer within the request's time limit")
    return min(left_s, at_most_s)


class Encoded(Protocol):
    """One text's token ids with the model's special tokens."""

    @property
    def ids(self) -> Sequence[int] | npt.NDArray[np.int32]: ...

    @property
    def ends(self) -> tuple[int, int]:
        """How many special tokens stand before and after the text."""


@dataclass(frozen=True)
class LocatedText:
    """One text's tokens, special ones included, and where each of them stands. Arrays have a row per token."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]  # characters of the text
    ends: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]  # the number of its word, -1 for none
    special: npt.NDArray[np.int32]  # 1 for what the template added
    pieces: Sequence[str]  # the tokens themselves, as the vocabulary has them

    def inner(self) -> tuple[int, int]:
        """Where the text's own tokens begin and end."""
        n_lead, n_trail = special_ends(self.special.tolist())
        return n_lead, len(self.ids) - n_trail


class Encoder(Protocol):
    """Called on many threads at once. Raises ForwardFailed for a text that the tokenizer fails on; where it runs in
    another process also QueueFull, DeadlineExceeded, LaneFailed and ModelNotReady."""

    @property
    def n_special(self) -> int:
        """Tokens of a text that holds nothing. Known once something was encoded."""

    def encode(self, texts: Sequence[str]) -> Sequence[Encoded]: ...

    def encode_chat(self, messages: Messages) -> Sequence[int] | npt.NDArray[np.int32]:
        """Ids of a conversation, as the model's template puts it, to be gone on with. Raises InvalidInput where the
        template says no, and ForwardFailed where it fails."""

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of tokens; of generated ones, special ones are left out."""

    def locate(self, texts: Sequence[str]) -> Sequence[LocatedText]: ...

    def join(self, pieces: Sequence[Sequence[str]]) -> Sequence[str]:
        """What each of some lists of pieces reads as."""

    def ids_of(self, tokens: Sequence[str]) -> Sequence[int | None]:
        """Of whole tokens as the vocabulary has them; None for one that isn't in it."""


class _LocalText:
    """The special tokens are counted only where somebody asks."""

    def __init__(self, encoding: Encoding) -> None:
        self.ids: list[int] = encoding.ids
        self._encoding = encoding

    @property
    def ends(self) -> tuple[int, int]:
        return special_ends(self._encoding.special_tokens_mask)


def special_ends(special: Sequence[int]) -> tuple[int, int]:
    """How many special tokens stand before and after the text."""
    n_lead = next((i for i, flag in enumerate(special) if not flag), 0)
    n_trail = next((i for i, flag in enumerate(reversed(special)) if not flag), 0)
    return n_lead, n_trail


class LocalEncoder:
    """In this process. Safe on many threads: nothing about it changes after construction."""

    def __init__(self, folder: Path, *, renders: bool = False) -> None:
        """`renders`: it takes conversations too, which the web process never does itself. Raises Refused naming the
        file."""
        self._template = ChatTemplate.of(folder) if renders else None
        modules = read_modules(*reader_of(folder))
        self._adds_special = modules is None or not modules.static
        with _as_refusal("tokenizer.json"):
            self._tokenizer = _load(folder / modules.transformer if modules else folder)
            if modules is not None and modules.lowercase:
                _lowercase_first(self._tokenizer)
            # The file may ask for both: they'd change answers silently, and setting them later isn't thread-safe.
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self.n_special = len(self._tokenizer.encode("", add_special_tokens=self._adds_special).ids)
            if any(self._tokenizer.encode("a").type_ids):
                raise Refused("tokenizer.json", "it gives token types to single texts (XLNet's, Funnel's): not served")

    def encode(self, texts: Sequence[str]) -> Sequence[Encoded]:
        with _as_failure():
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=self._adds_special)
            return [_LocalText(encoding) for encoding in encodings]

    def encode_chat(self, messages: Messages) -> Sequence[int]:
        assert self._template is not None
        text = self._template.render(messages)
        with _as_failure():
            return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        with _as_failure():
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special))

    def locate(self, texts: Sequence[str]) -> Sequence[LocatedText]:
        with _as_failure():
            encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=self._adds_special)
            return [self._located(encoding) for encoding in encodings]

    def _located(self, encoding: Encoding) -> LocatedText:
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
        words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int32)
        pieces = [str(self._tokenizer.id_to_token(index)) for index in encoding.ids]
        special = np.array(encoding.special_tokens_mask, np.int32)
        return LocatedText(np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1], words, special, pieces)

    def join(self, pieces: Sequence[Sequence[str]]) -> Sequence[str]:
        decoder = self._tokenizer.decoder
        with _as_failure():
            return [" ".join(one) if decoder is None else str(decoder.decode(list(one))) for one in pieces]

    def ids_of(self, tokens: Sequence[str]) -> Sequence[int | None]:
        with _as_failure():
            return [self._tokenizer.token_to_id(token) for token in tokens]


@dataclass(frozen=True)
class ArrivedText:
    """A text that another process encoded."""

    ids: npt.NDArray[np.int32]
    ends: tuple[int, int]


def _lowercase_first(tokenizer: Tokenizer) -> None:
    """As sentence-transformers' do_lower_case, whatever the tokenizer itself does."""
    own = tokenizer.normalizer
    tokenizer.normalizer = (
        normalizers.Lowercase() if own is None else normalizers.Sequence([normalizers.Lowercase(), own])
    )


def _load(folder: Path) -> Tokenizer:
    """Of the transformer in `folder`."""
    file = settled_file(folder)
    if not file.exists():
        raise Refused(TOKENIZER_FILE, "missing, and nothing was made of what is there instead")
    return Tokenizer.from_file(str(file))


@contextmanager
def _as_refusal(path: str) -> Iterator[None]:
    """The library raises bare Exceptions on a bad file, and its panics derive from BaseException alone."""
    try:
        yield
    except (Refused, OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise Refused(path, f"not a tokenizer ({str(error)[:200]})") from error


@contextmanager
def _as_failure() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ForwardFailed("the model's tokenizer failed on this input") from error
