"""Evenly spaced keyframes, whatever is asked."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(frames: Tensor, scores: Tensor, k: int) -> Tensor:
    """The frames in the middle of min(N, k) equal parts of the video.

    Args:
        frames: `[N, D]`; only their number counts.
        scores: `[Q, N]`; only the number of questions counts.
        k: keyframes.
    Returns:
        int64 `[Q, min(N, k)]`.
    """
    n, count = len(frames), min(len(frames), k)
    # (2 i + 1) n // (2 count) in whole numbers: the middle of part i, without rounding errors.
    chosen = (2 * torch.arange(count, device=frames.device) + 1) * n // max(1, 2 * count)
    return chosen.expand(len(scores), -1)
