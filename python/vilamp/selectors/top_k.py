"""The most relevant frames, however alike."""

from __future__ import annotations

from torch import Tensor

from .rows import ascending, best


def top_k(frames: Tensor, scores: Tensor, k: int) -> Tensor:
    """The min(N, k) frames of the highest score.

    Args:
        frames: `[N, D]`; not looked at.
        scores: `[Q, N]`.
        k: keyframes.
    Returns:
        int64 `[Q, min(N, k)]`.
    """
    return ascending(best(scores, k))
