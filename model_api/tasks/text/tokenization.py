"""Texts to token ids, in the web process, with the model's own tokenizer.json. Never truncates silently."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from model_api.errors import InvalidInput, Refused

# RoBERTa numbers positions from padding_idx + 1 = 2, so two of its position embeddings can't hold tokens.
_POSITION_OFFSETS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2}


@dataclass(frozen=True)
class Tokens:
    """`ids`: one int32 array [n_tokens] per text; `truncated`: indices of the texts that were cut."""

    ids: list[npt.NDArray[np.int32]]
    truncated: list[int]


class TextTokenizer:
    """A model's tokenizer with its limits. Safe on many threads: nothing about it changes after construction."""

    def __init__(self, folder: Path, options: Mapping[str, Any], max_text_chars: int) -> None:
        """Read the tokenizer and the length limits of the model in `folder`. Raises Refused naming the file."""
        self._tokenizer = _load_tokenizer(folder)
        # The file may ask for both: they'd change answers silently, and setting them later isn't thread-safe.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = int(options.get("max_tokens", read_max_tokens(folder)))
        self._max_text_chars = max_text_chars
        self._n_special = len(self._tokenizer.encode("").ids)

    def encode(self, texts: Sequence[Any], pointer: str, truncate: bool) -> Tokens:
        """Token ids with the model's special tokens.

        Raises InvalidInput pointing at `<pointer>/<index>` for what isn't a text, is empty, or is too long (unless
        `truncate`).
        """
        for index, text in enumerate(texts):
            check_text(text, f"{pointer}/{index}", self._max_text_chars)
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        ids: list[npt.NDArray[np.int32]] = []
        truncated: list[int] = []
        for index, encoding in enumerate(encodings):
            row = self._tokens_of(encoding, f"{pointer}/{index}")
            if len(row) > self.max_tokens:
                if not truncate:
                    raise InvalidInput(
                        f"text has {len(row)} tokens, the model takes {self.max_tokens};"
                        ' shorten it or send "parameters": {"truncate": true}',
                        f"{pointer}/{index}",
                    )
                row = _cut(row, encoding.special_tokens_mask, self.max_tokens)
                truncated.append(index)
            ids.append(np.asarray(row, dtype=np.int32))
        return Tokens(ids, truncated)

    def encode_windows(self, texts: Sequence[Any], pointer: str) -> list[list[npt.NDArray[np.int32]]]:
        """Token ids of each text, an over-long one in several windows that together hold all of it.

        The windows of a text have equal lengths, each the most that the model takes, so neighbours may overlap.
        Raises InvalidInput as `encode` does, but never for the length in tokens.
        """
        for index, text in enumerate(texts):
            check_text(text, f"{pointer}/{index}", self._max_text_chars)
        windows = []
        for index, encoding in enumerate(self._tokenizer.encode_batch_fast(list(texts))):
            row = self._tokens_of(encoding, f"{pointer}/{index}")
            lead, trail = _special_ends(encoding.special_tokens_mask)
            inner = row[lead : len(row) - trail]
            size = max(1, self.max_tokens - lead - trail)
            count = -(-len(inner) // size) if len(row) > self.max_tokens else 1
            starts = [(len(inner) - size) * i // (count - 1) for i in range(count)] if count > 1 else [0]
            pieces = [inner[start : start + size] for start in starts] if count > 1 else [inner]
            windows.append([np.asarray([*row[:lead], *p, *row[len(row) - trail :]], np.int32) for p in pieces])
        return windows

    def _tokens_of(self, encoding: Encoding, pointer: str) -> list[int]:
        """Raises InvalidInput at `pointer` if nothing is left of the text: the answer would be about no text at all."""
        row: list[int] = encoding.ids
        if len(row) <= self._n_special:
            raise InvalidInput("text is empty but for characters that the model's tokenizer drops", pointer)
        return row

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated tokens, special ones left out."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


def check_text(text: Any, pointer: str, max_text_chars: int) -> None:
    """Raises InvalidInput at `pointer` unless `text` is a string that holds something and isn't beyond the limit."""
    if not isinstance(text, str):
        raise InvalidInput("must be a string", pointer)
    if len(text) > max_text_chars:
        raise InvalidInput(f"text has {len(text)} characters, at most {max_text_chars} are accepted", pointer)
    if not text or text.isspace():
        raise InvalidInput("text is empty", pointer)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("text holds half of a surrogate pair, which is no Unicode text", pointer) from None


def _cut(row: Sequence[int], special: Sequence[int], max_tokens: int) -> list[int]:
    """Drop tokens at the end of the text but keep the special tokens around it, as transformers truncates."""
    n_lead, n_trail = _special_ends(special)
    keep = max_tokens - n_trail
    return [*row[:keep], *row[len(row) - n_trail :]] if keep > n_lead else list(row[:max_tokens])


def _special_ends(special: Sequence[int]) -> tuple[int, int]:
    """How many special tokens stand before and after the text."""
    n_lead = next((i for i, flag in enumerate(special) if not flag), 0)
    n_trail = next((i for i, flag in enumerate(reversed(special)) if not flag), 0)
    return n_lead, n_trail


def _load_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        if path.exists():
            return Tokenizer.from_file(str(path))
        config = read_json(folder / "tokenizer_config.json", {})
        if (folder / "vocab.txt").exists():
            lowercase = bool(config.get("do_lower_case", True))
            return BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase)._tokenizer  # type: ignore[no-any-return]
    except Refused:
        raise
    except Exception as error:  # tokenizers raises bare Exception on a bad file
        raise Refused(path.name, f"not a tokenizer ({error})") from error
    raise Refused("tokenizer.json", "missing; save the model with a fast tokenizer (save_pretrained writes it)")


def read_max_tokens(folder: Path) -> int:
    """Most tokens of one text, special ones included: the least of what the model's own files say."""
    config = read_json(folder / "config.json", {})
    positions = config.get("max_position_embeddings", 512) - _POSITION_OFFSETS.get(config.get("model_type", ""), 0)
    limits = [
        positions,
        read_json(folder / "tokenizer_config.json", {}).get("model_max_length"),
        read_json(folder / "sentence_bert_config.json", {}).get("max_seq_length"),
    ]
    return int(min(limit for limit in limits if isinstance(limit, int | float) and limit > 0))


def read_json(path: Path, default: Any) -> Any:
    """The file's JSON value, `default` if it doesn't exist. Raises Refused naming the file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return default
    except ValueError as error:
        raise Refused(path.name, f"not JSON ({error})") from error
