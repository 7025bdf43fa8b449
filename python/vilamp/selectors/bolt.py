"""BOLT's inverse transform sampling: evenly spaced in relevance instead of in time."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import ascending, finite

SHARPNESS = 3.0
"""Power of the scores; the paper's best values lie between 2 and 4."""


def bolt(frames: Tensor, scores: Tensor, k: int, sharpness: float = SHARPNESS) -> Tensor:
    """Frames at even quantiles of the distribution that the sharpened scores make over time.

    Scores are mapped to [0, 1] (smallest to largest of the question), raised to `sharpness` and
    summed up; the frames at the quantiles (i + 1/2) / k are taken. A frame that holds
    several quantiles is taken once, and its others go to the best frames that are left.

    Args:
        frames: `[N, D]`; only their number counts.
        scores: `[Q, N]`.
        k: keyframes.
        sharpness: 0 gives evenly spaced frames.
    Returns:
        int64 `[Q, min(N, k)]`.
    Source: Liu et al. 2025, arXiv:2503.21483, section 3.2. There, quantiles of one frame
        repeat it; here the budget is used up.
    """
    n = len(frames)
    count = min(n, k)
    if count == 0 or len(scores) == 0:
        return scores.new_empty((len(scores), count), dtype=torch.int64)
    known = finite(scores)
    low = known.amin(-1, keepdim=True)
    spread = (known - low) / (known.amax(-1, keepdim=True) - low).clamp(min=1e-12)
    weights = spread**sharpness
    total = weights.sum(-1, keepdim=True)
    weights = torch.where(total > 0, weights, torch.ones_like(weights))
    summed = weights.cumsum(-1)
    at = (torch.arange(count, device=scores.device) + 0.5) / count
    number = torch.searchsorted(summed, at * summed[:, -1:]).clamp(max=n - 1)
    chosen = torch.zeros_like(weights, dtype=torch.bool).scatter_(1, number, True)
    # Frames that were hit rank before all others, which follow by weight, the earlier first.
    ranked = torch.where(chosen, torch.inf, weights).sort(dim=-1, descending=True, stable=True)
    return ascending(ranked.indices[:, :count])
