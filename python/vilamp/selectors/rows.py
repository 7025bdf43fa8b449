"""Rows of frame numbers in the form that all selectors give."""

from __future__ import annotations

import torch
from torch import Tensor


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
