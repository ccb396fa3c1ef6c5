"""Texts to token ids within the model's limits. Never truncates silently."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from model_api.compute.positions import most_tokens
from model_api.errors import InvalidInput, Refused
from model_api.repository.bounded_json import read_json as read_bounded_json
from model_api.repository.loaded_files import reader_of
from model_api.repository.manifest import MANIFEST_NAME
from model_api.repository.sentence_modules import SentenceModules, read_modules
from model_api.tasks.contract import Limits
from model_api.tasks.text.chat_template import Messages
from model_api.tasks.text.encoding import MAX_CONFIG_BYTES, Encoded, Encoder, LocalEncoder, LocatedText

Ids = Sequence[int] | npt.NDArray[np.int32]
MAX_STATIC_TOKENS = 1_000_000  # a mean of rows has no positions
DEFAULT_MAX_TOKENS = 512  # where no file of the model's says anything
_NOTHING_LEFT = "text is empty but for characters that the model's tokenizer drops"


@dataclass(frozen=True)
class Tokens:
    """`ids`: one int32 array [n_tokens] per text; `truncated`: indices of the texts that were cut."""

    ids: list[npt.NDArray[np.int32]]
    truncated: list[int]


class TextTokenizer:
    """A model's tokenizer with its limits. Safe on many threads: nothing about it changes after construction."""

    def __init__(self, folder: Path, options: Mapping[str, Any], limits: Limits, more_chars: int = 0) -> None:
        """Read the tokenizer (unless it runs elsewhere) and the length limits of the model in `folder`; `more_chars`
        are what the task itself adds to a text. Raises Refused naming the file."""
        self._encoder: Encoder = LocalEncoder(folder) if limits.encoder is None else limits.encoder
        self.max_tokens = max_tokens_of(folder, options)
        self._max_text_chars = limits.max_text_chars + more_chars

    def encode(self, texts: Sequence[Any], pointer: str | Sequence[str], truncate: bool) -> Tokens:
        """Token ids with the model's special tokens.

        Raises InvalidInput pointing at `<pointer>/<index>`, or at the text's own of several pointers, for what isn't a
        text, is empty, or is too long (unless `truncate`).
        """
        places = _places(pointer, len(texts))
        for text, place in zip(texts, places, strict=True):
            check_text(text, place, self._max_text_chars)
        ids: list[npt.NDArray[np.int32]] = []
        truncated: list[int] = []
        for index, encoded in enumerate(self._encoder.encode(texts)):
            row = self._tokens_of(encoded, places[index])
            if len(row) > self.max_tokens:
                if not truncate:
                    raise InvalidInput(
                        f"text has {len(row)} tokens, the model takes {self.max_tokens};"
                        ' shorten it or send "parameters": {"truncate": true}',
                        places[index],
                    )
                row = _cut(row, encoded.ends, self.max_tokens)
                truncated.append(index)
            ids.append(np.asarray(row, dtype=np.int32))
        return Tokens(ids, truncated)

    def encode_whole(self, texts: Sequence[Any], pointer: str) -> list[Ids]:
        """Token ids with the model's special tokens, however many. Raises InvalidInput at `<pointer>/<index>`."""
        for index, text in enumerate(texts):
            check_text(text, f"{pointer}/{index}", self._max_text_chars)
        encoded = self._encoder.encode(texts)
        return [self._tokens_of(one, f"{pointer}/{index}") for index, one in enumerate(encoded)]

    def encode_chat(self, messages: Messages) -> Ids:
        """Token ids of a conversation with the beginning of the model's turn, however many. Raises InvalidInput without
        a pointer, where the model's template says no."""
        return self._encoder.encode_chat(messages)

    def encode_windows(
        self, texts: Sequence[Any], pointer: str | Sequence[str], prefix: str = ""
    ) -> list[list[npt.NDArray[np.int32]]]:
        """Token ids of each text, an over-long one in several windows that together hold all of it.

        The windows of a text have equal lengths, each the most that the model takes, so neighbours may overlap.
        `prefix` is what the texts begin with, and each of their windows too.
        Raises InvalidInput as `encode` does, but never for the length in tokens.
        """
        places = _places(pointer, len(texts))
        for text, place in zip(texts, places, strict=True):
            check_text(text, place, self._max_text_chars)
        windows = []
        n_prefix = self.prompt_length(prefix) if prefix else 0
        for encoded, place in zip(self._encoder.encode(texts), places, strict=True):
            row = self._tokens_of(encoded, place)
            lead, trail = encoded.ends
            lead = max(lead, n_prefix)
            inner = row[lead : len(row) - trail]
            size = max(1, self.max_tokens - lead - trail)
            count = -(-len(inner) // size) if len(row) > self.max_tokens else 1
            starts = [(len(inner) - size) * i // (count - 1) for i in range(count)] if count > 1 else [0]
            pieces = [inner[start : start + size] for start in starts] if count > 1 else [inner]
            windows.append([np.asarray([*row[:lead], *p, *row[len(row) - trail :]], np.int32) for p in pieces])
        return windows

    def _tokens_of(self, encoded: Encoded, pointer: str) -> Ids:
        """Raises InvalidInput at `pointer` if nothing is left of the text: the answer would be about no text at all."""
        if len(encoded.ids) <= self._encoder.n_special:
            raise InvalidInput(_NOTHING_LEFT, pointer)
        return encoded.ids

    def encode_bare(self, texts: Sequence[Any], pointers: Sequence[str]) -> list[Ids]:
        """Token ids without special ones, however many. Raises InvalidInput at the text's pointer."""
        for text, pointer in zip(texts, pointers, strict=True):
            check_text(text, pointer, self._max_text_chars)
        found = []
        for encoded, pointer in zip(self._encoder.encode(texts), pointers, strict=True):
            row, (lead, trail) = self._tokens_of(encoded, pointer), encoded.ends
            found.append(row[lead : len(row) - trail])
        return found

    def locate(self, texts: Sequence[Any], pointers: Sequence[str]) -> Sequence[LocatedText]:
        """Tokens with the model's special ones and where they stand, however many. Raises InvalidInput at the text's
        pointer."""
        for text, pointer in zip(texts, pointers, strict=True):
            check_text(text, pointer, self._max_text_chars)
        found = self._encoder.locate(texts)
        for located, pointer in zip(found, pointers, strict=True):
            if len(located.ids) <= self._encoder.n_special:
                raise InvalidInput(_NOTHING_LEFT, pointer)
        return found

    def join(self, pieces: Sequence[Sequence[str]]) -> Sequence[str]:
        """What each of some lists of pieces reads as."""
        return self._encoder.join(pieces) if pieces else []

    def prompt_length(self, prompt: str) -> int:
        """How many tokens a prompt takes at the beginning of a text, special ones before it included."""
        encoded = self._encoder.encode([prompt])[0]
        return min(len(encoded.ids), self.max_tokens) - (1 if encoded.ends[1] else 0)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of tokens; of generated ones, special ones are left out."""
        return self._encoder.decode(ids, skip_special)

    def ids_of(self, tokens: Sequence[str]) -> Sequence[int | None]:
        """Of whole tokens as the vocabulary has them; None for one that isn't in it."""
        return self._encoder.ids_of(tokens)


def _places(pointer: str | Sequence[str], count: int) -> Sequence[str]:
    return [f"{pointer}/{index}" for index in range(count)] if isinstance(pointer, str) else pointer


def check_text(text: Any, pointer: str, max_text_chars: int, *, may_be_empty: bool = False) -> None:
    """Raises InvalidInput at `pointer` unless `text` is a string that holds something and isn't beyond the limit."""
    if not isinstance(text, str):
        raise InvalidInput("must be a string", pointer)
    if len(text) > max_text_chars:
        raise InvalidInput(f"text has {len(text)} characters, at most {max_text_chars} are accepted", pointer)
    if not may_be_empty and (not text or text.isspace()):
        raise InvalidInput("text is empty", pointer)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("text holds half of a surrogate pair, which is no Unicode text", pointer) from None


def _cut(row: Ids, ends: tuple[int, int], max_tokens: int) -> Sequence[int]:
    """Drop tokens at the end of the text but keep the special tokens around it, as transformers truncates."""
    n_lead, n_trail = ends
    keep = max_tokens - n_trail
    return [*row[:keep], *row[len(row) - n_trail :]] if keep > n_lead else list(row[:max_tokens])


def max_tokens_of(folder: Path, options: Mapping[str, Any]) -> int:
    """Most tokens of one text: what the author says, else the model's own files. Raises Refused for more than it has
    positions for."""
    asked, positions = options.get("max_tokens"), _read_positions(folder)
    if asked is not None and positions is not None and asked > positions:
        raise Refused(MANIFEST_NAME, f"option max_tokens is {asked}, but the model has positions for {positions}")
    return int(asked) if asked is not None else read_max_tokens(folder)


def read_max_tokens(folder: Path) -> int:
    """Most tokens of one text, special ones included, as the model's own libraries take it: what sentence-transformers
    was told, else the least of what the tokenizer and config.json say; never more than there are positions for."""
    modules, root = _modules(folder)
    if modules is not None and modules.static:
        return MAX_STATIC_TOKENS
    positions = _read_positions(folder)
    told = modules.max_tokens if modules else read_json(root / "sentence_bert_config.json", {}).get("max_seq_length")
    if not _limit(told):
        told = read_json(root / "tokenizer_config.json", {}).get("model_max_length")
    limits = [limit for limit in (_limit(told), _limit(positions)) if limit]
    return min(limits, default=DEFAULT_MAX_TOKENS)


def _limit(value: Any) -> int:
    """0 for what sets none: transformers writes 10^30 then."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 < value < 10**9 else 0


def _read_positions(folder: Path) -> int | None:
    return most_tokens(read_json(_modules(folder)[1] / "config.json", {}))


def _modules(folder: Path) -> tuple[SentenceModules | None, Path]:
    """What modules.json says, and where the transformer lies."""
    modules = read_modules(*reader_of(folder))
    return modules, folder / modules.transformer if modules else folder


def read_json(path: Path, default: Any) -> Any:
    """The file's JSON value, of the same kind as `default`, which stands for a file that doesn't exist. Raises Refused
    naming the file."""
    try:
        document = read_bounded_json(path, MAX_CONFIG_BYTES)
    except FileNotFoundError:
        return default
    if not isinstance(document, type(default)):
        raise Refused(path.name, f"holds {type(document).__name__}, not {type(default).__name__}")
    return document
