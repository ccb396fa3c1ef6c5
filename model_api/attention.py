"""Attention over sequences laid end to end, each by itself: without padding of one to another, without a mask.

A sequence's result depends on its own rows and length alone, to the bit. Model side only: imports torch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

# From here on bfloat16 products in one piece beat torch's fused kernel (by a sixth to two fifths).
LONG_TOKENS = 49
# oneDNN compiles code for every size that it meets, so long sequences are computed at few sizes.
LONG_STEP_TOKENS = 32


def groups_of_equal_length(lengths: list[int]) -> list[tuple[int, int, int]]:
    """(first row, sequences, length) of each run of equal lengths, the sequences lying end to end."""
    groups: list[tuple[int, int, int]] = []
    row = start = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or lengths[end] != lengths[start]:
            groups.append((row, end - start, lengths[start]))
            row += (end - start) * lengths[start]
            start = end
    return groups


def attend(qkv: torch.Tensor, groups: list[tuple[int, int, int]], n_heads: int) -> torch.Tensor:
    """[rows, hidden] from [rows, 3 * hidden], whose queries hold the scale already.

    Rows after the last group belong to no sequence; they get values without a meaning.
    """
    hidden = qkv.shape[1] // 3
    contexts = []
    end = 0
    for start, count, length in groups:
        end = start + count * length
        if qkv.dtype == torch.bfloat16 and length >= LONG_TOKENS:
            contexts += [_long(qkv[row : row + length], n_heads) for row in range(start, end, length)]
        else:
            contexts.append(_short(qkv[start:end], length, n_heads))
    if end < len(qkv):
        contexts.append(qkv[end:, :hidden])
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _short(rows: torch.Tensor, length: int, n_heads: int) -> torch.Tensor:
    """All sequences of one length at once; in float32, which the fused kernel does faster than bfloat16."""
    split = rows.float().view(-1, length, 3, n_heads, rows.shape[1] // 3 // n_heads)
    query, key, value = split.permute(2, 0, 3, 1, 4).unbind()
    context = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    return context.transpose(1, 2).reshape(rows.shape[0], -1).to(rows.dtype)


def _long(rows: torch.Tensor, n_heads: int) -> torch.Tensor:
    """One sequence, its length rounded up to a multiple of LONG_STEP_TOKENS."""
    length, head_size = rows.shape[0], rows.shape[1] // 3 // n_heads
    rounded = -(-length // LONG_STEP_TOKENS) * LONG_STEP_TOKENS
    split = rows.new_zeros(3, n_heads, rounded, head_size)
    split[:, :, :length] = rows.view(length, 3, n_heads, head_size).permute(1, 2, 0, 3)
    scores = torch.bmm(split[0], split[1].transpose(1, 2))
    scores[:, :, length:] = -torch.inf
    context = torch.bmm(torch.softmax(scores, -1), split[2])
    return context[:, :length].transpose(0, 1).reshape(length, -1)
