"""From token vectors to one vector per text. Model side only: imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model_api.repository.sentence_modules import POOLINGS


def pool(tokens: torch.Tensor, lengths: Sequence[int], poolings: str | Sequence[str], skipped: int = 0) -> torch.Tensor:
    """float32 [texts, poolings * hidden] from `tokens` [sum of lengths, hidden]: each pooling's vector, end to end. A
    text's result depends on its rows alone. Its first `skipped` tokens take no part; it must have more.

    Raises ValueError for a pooling outside POOLINGS.
    """
    if skipped:
        kept = np.concatenate([np.arange(length) >= skipped for length in lengths])
        tokens, lengths = tokens[torch.from_numpy(kept)], [length - skipped for length in lengths]
    names = [poolings] if isinstance(poolings, str) else poolings
    vectors = [_pool(tokens, lengths, name, skipped) for name in names]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, 1)


def _pool(tokens: torch.Tensor, lengths: Sequence[int], pooling: str, skipped: int) -> torch.Tensor:
    if pooling == "cls":
        return tokens[first_rows(lengths)].float()
    if pooling == "lasttoken":
        return tokens[last_rows(lengths)].float()
    if pooling not in POOLINGS:
        raise ValueError(f"unknown pooling {pooling!r}; known are {', '.join(POOLINGS)}")
    if pooling == "max":
        return torch.stack([rows.amax(0) for rows in torch.split(tokens, list(lengths))]).float()
    count, rows = torch.tensor(lengths), tokens.float()
    text_of_row = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))  # a tenth of torch's own time
    if pooling == "weightedmean":  # by place, which a skipped beginning doesn't change
        places = torch.from_numpy(np.concatenate([np.arange(1, n + 1, dtype=np.float32) + skipped for n in lengths]))
        rows = rows * places[:, None]
        divisor = torch.zeros(len(lengths)).index_add_(0, text_of_row, places)
    else:
        divisor = count.float() if pooling == "mean" else count.float().sqrt()
    total = torch.zeros(len(lengths), tokens.shape[1]).index_add_(0, text_of_row, rows)
    return total / divisor[:, None]


def first_rows(lengths: Sequence[int]) -> torch.Tensor:
    """The row of each text's first token."""
    return last_rows(lengths) - torch.tensor(lengths) + 1


def last_rows(lengths: Sequence[int]) -> torch.Tensor:
    """The row of each text's last token."""
    return torch.tensor(lengths).cumsum(0) - 1
