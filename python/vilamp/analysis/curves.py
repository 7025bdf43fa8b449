"""How few of many hold most of the whole."""

from __future__ import annotations

import torch
from torch import Tensor


def cumulative(shares: Tensor) -> Tensor:
    """`[..., n]`: entry i is the part of the sum that the i + 1 largest hold; 1 at the end.

    Where the sum is 0 all count as equal.
    """
    total = shares.sum(-1, keepdim=True)
    shares = torch.where(total > 0, shares, torch.ones_like(shares))
    ranked = shares.sort(-1, descending=True).values.cumsum(-1)
    return ranked / ranked[..., -1:]


def needed(curve: Tensor, part: float) -> int:
    """How many of the largest it takes to hold `part` of the whole, by a curve `[n]`."""
    # A last entry of 1 - 1e-7 still holds everything.
    return int((curve < part - 1e-6).sum().clamp(max=len(curve) - 1)) + 1
