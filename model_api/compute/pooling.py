"""From token vectors to one vector per text. Model side only: imports torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model_api.repository.loaded_files import POOLINGS


def pool(tokens: torch.Tensor, lengths: Sequence[int], pooling: str) -> torch.Tensor:
    """float32 [texts, hidden] from `tokens` [sum of lengths, hidden]. Each text's result depends on its rows alone.

    Raises ValueError for a pooling outside POOLINGS.
    """
    if pooling == "cls":
        return tokens[first_rows(lengths)].float()
    if pooling == "lasttoken":
        return tokens[last_rows(lengths)].float()
    if pooling not in POOLINGS:
        raise ValueError(f"unknown pooling {pooling!r}; known are {', '.join(POOLINGS)}")
    if pooling == "max":
        return torch.stack([rows.amax(0) for rows in torch.split(tokens, list(lengths))]).float()
    count = torch.tensor(lengths)
    text_of_row = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))  # a tenth of torch's own time
    total = torch.zeros(len(lengths), tokens.shape[1]).index_add_(0, text_of_row, tokens.float())
    divisor = count.float() if pooling == "mean" else count.float().sqrt()
    return total / divisor[:, None]


def first_rows(lengths: Sequence[int]) -> torch.Tensor:
    """The row of each text's first token."""
    return last_rows(lengths) - torch.tensor(lengths) + 1


def last_rows(lengths: Sequence[int]) -> torch.Tensor:
    """The row of each text's last token."""
    return torch.tensor(lengths).cumsum(0) - 1
