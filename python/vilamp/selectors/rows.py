"""Rows of scores and of frame numbers in the form that selectors work with and give."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def finite(scores: Tensor) -> Tensor:
    """fp64 `[Q, N]` without NaN and infinities.

    NaN and -inf become the least of the question's other scores, inf the greatest; where there are
    no others, all are 0.
    """
    scores = scores.double()
    if scores.shape[-1] == 0:
        return scores
    known = scores.isfinite()
    low = scores.masked_fill(~known, torch.inf).amin(-1, keepdim=True)
    high = scores.masked_fill(~known, -torch.inf).amax(-1, keepdim=True)
    filled = torch.where(known, scores, torch.where(scores == torch.inf, high, low))
    return filled.masked_fill(~known.any(-1, keepdim=True), 0)


def directions(frames: Tensor) -> Tensor:
    """Rows `[N, D]` of length 1, in the dtype given; zeros, which are like nothing, for rows that
    are 0 or not finite."""
    return normalize(frames, dim=-1).nan_to_num(0, 0, 0)


def ascending(chosen: Tensor) -> Tensor:
    """Sort each row of int64 `[Q, k]` of distinct frame numbers."""
    return chosen.sort(-1).values


def best(scores: Tensor, k: int) -> Tensor:
    """Numbers of the k largest of `[..., N]`, best first; ties go to the earlier, NaN counts least.

    Not `topk`, which promises nothing about ties.
    """
    ranked = torch.nan_to_num(scores, nan=-torch.inf).sort(dim=-1, descending=True, stable=True)
    return ranked.indices[..., :k]


def padded(rows: list[Tensor], k: int) -> Tensor:
    """int64 `[Q, k]` from rows of at most k numbers, ascending, -1 behind them."""
    out = rows[0].new_full((len(rows), k), -1)
    for row, numbers in zip(out, rows, strict=True):
        row[: len(numbers)] = numbers.sort().values
    return out
