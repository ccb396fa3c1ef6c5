"""Attention over sequences laid end to end, each by itself.

Short sequences are computed together, at a few lengths that they are rounded up to; the surplus is masked. No other
padding, and a sequence's result depends on its own rows and length alone, to the bit. Model side only: imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812  the name that all of torch's users know it by

# Lengths of short sequences. Few, for each costs a dozen calls a layer; softmax is slow at odd multiples of eight.
SHORT_LENGTHS = (8, 16, 32, 48)
# Longer ones: oneDNN compiles code for every size that it meets, so they are computed at few sizes, too.
LONG_STEP_TOKENS = 32


@dataclass(frozen=True)
class Places:
    """Where the rows of short sequences stand: each in the first places of its own, the surplus ones masked."""

    rows: torch.Tensor  # [count * length], the row at each place; at a surplus place its sequence's first
    real: torch.Tensor  # the places that aren't surplus, in the order of the rows
    mask: torch.Tensor  # [count, 1, length], to be added to the scores of a place: 0, or -inf if surplus


@dataclass(frozen=True)
class Group:
    """`count` sequences that lie end to end in rows `start` to `end`, and are computed together at one length."""

    start: int
    end: int
    count: int
    length: int
    places: Places | None  # of short sequences; longer ones have exactly this length


def groups_of(lengths: Sequence[int]) -> list[Group]:
    """The groups of sequences that lie end to end, sorted by length."""
    groups: list[Group] = []
    start = 0
    for length, run in groupby(lengths, key=_rounded):
        members = np.array(list(run))
        end = start + int(members.sum())
        places = _places(members, length, start) if length <= SHORT_LENGTHS[-1] else None
        groups.append(Group(start, end, len(members), length, places))
        start = end
    return groups


def _rounded(length: int) -> int:
    return next((rounded for rounded in SHORT_LENGTHS if rounded >= length), length)


def _places(lengths: npt.NDArray[np.int64], length: int, start: int) -> Places:
    positions = np.arange(length)
    real = positions < lengths[:, None]
    first = start + lengths.cumsum() - lengths
    rows = first[:, None] + np.where(real, positions, 0)
    mask = np.where(real, np.float32(0), np.float32(-np.inf))[:, None]
    return Places(*(torch.from_numpy(array) for array in (rows.ravel(), np.flatnonzero(real), mask)))


def attend(qkv: torch.Tensor, groups: Sequence[Group], n_heads: int) -> torch.Tensor:
    """[rows, hidden] from [rows, 3 * hidden], whose queries hold the scale already.

    Rows after the last group belong to no sequence; they get values without a meaning.
    """
    hidden = qkv.shape[1] // 3
    contexts = []
    for group in groups:
        if group.places is not None:
            contexts.append(_short(qkv, group.places, group.length, n_heads))
        elif qkv.dtype == torch.bfloat16:
            rows = range(group.start, group.end, group.length)
            contexts += [_long(qkv[row : row + group.length], n_heads) for row in rows]
        else:
            contexts.append(_long_float32(qkv[group.start : group.end], group.length, n_heads))
    if groups[-1].end < len(qkv):
        contexts.append(qkv[groups[-1].end :, :hidden])
    return contexts[0] if len(contexts) == 1 else torch.cat(contexts)


def _short(qkv: torch.Tensor, places: Places, length: int, n_heads: int) -> torch.Tensor:
    """In float32 throughout: no slower than bfloat16 at these sizes, and a third faster than torch's fused kernel."""
    count, head_size = len(places.mask), qkv.shape[1] // 3 // n_heads
    placed = qkv.index_select(0, places.rows).view(count, length, 3, n_heads, head_size)
    split = torch.empty(3, count, n_heads, length, head_size).copy_(placed.permute(2, 0, 3, 1, 4))
    query, key, value = split.view(3, count * n_heads, length, head_size).unbind()
    mask = places.mask.expand(count, n_heads, length).reshape(-1, length, 1).expand(-1, length, length)
    # [keys, queries]: a softmax over columns is faster than one over rows this short.
    weights = torch.softmax(torch.baddbmm(mask, key, query.transpose(1, 2)), 1)
    context = torch.bmm(weights.transpose(1, 2), value).view(count, n_heads, length, head_size)
    joined = torch.empty(count, length, n_heads, head_size, dtype=qkv.dtype).copy_(context.transpose(1, 2))
    return joined.view(count * length, -1).index_select(0, places.real)


def _long(rows: torch.Tensor, n_heads: int) -> torch.Tensor:
    """One sequence in bfloat16, its length rounded up to a multiple of LONG_STEP_TOKENS.

    Products in one piece beat torch's fused kernel here, by a sixth to two fifths.
    """
    length, head_size = rows.shape[0], rows.shape[1] // 3 // n_heads
    rounded = -(-length // LONG_STEP_TOKENS) * LONG_STEP_TOKENS
    split = rows.new_zeros(3, n_heads, rounded, head_size)
    split[:, :, :length] = rows.view(length, 3, n_heads, head_size).permute(1, 2, 0, 3)
    scores = torch.bmm(split[0], split[1].transpose(1, 2))
    scores[:, :, length:] = -torch.inf
    context = torch.bmm(torch.softmax(scores, -1), split[2])
    return context[:, :length].transpose(0, 1).reshape(length, -1)


def _long_float32(rows: torch.Tensor, length: int, n_heads: int) -> torch.Tensor:
    """Sequences of exactly one length, by torch's fused kernel."""
    split = rows.view(-1, length, 3, n_heads, rows.shape[1] // 3 // n_heads)
    query, key, value = split.permute(2, 0, 3, 1, 4).unbind()
    context = F.scaled_dot_product_attention(query, key, value, scale=1.0)
    return context.transpose(1, 2).reshape(rows.shape[0], -1)
