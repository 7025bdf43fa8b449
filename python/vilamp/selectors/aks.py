"""Adaptive keyframe sampling: split the video in halves where its relevance is spread out."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import best, finite, padded

THRESHOLD = 0.8
"""A part whose best frames are this far above its mean is not split."""
FLATNESS = -100.0
"""Nor one whose scores are spread as little; as published, it never is."""
DEPTH = 5
"""Halvings at most."""


def aks(
    frames: Tensor,
    scores: Tensor,
    k: int,
    threshold: float = THRESHOLD,
    flatness: float = FLATNESS,
    depth: int = DEPTH,
) -> Tensor:
    """Recursive judge and split, then the best frames of each part.

    Scores of a question are mapped to [0, 1]. A part is not split when the mean of its k best
    scores exceeds the mean of all its scores by more than `threshold`, and their standard deviation
    exceeds `flatness`; it gives its best frames. Else it is halved, each half with half of
    the part's budget, at most `depth` times.

    Args:
        frames: `[N, D]`; only their number counts.
        scores: `[Q, N]`.
        k: keyframes.
        threshold, flatness, depth: as above; `depth` 0 gives the top k.
    Returns:
        int64 `[Q, min(N, k)]`.
    Source: Tang et al. 2025, "Adaptive Keyframe Sampling for Long Video Understanding",
        arXiv:2502.21271, section 3.3 and its published `frame_select.py` (t1, t2, all_depth). There
        a part at depth d gives floor(k / 2^d) frames; here nothing of the budget is lost: an odd
        frame goes to the half with the higher score, what a short half cannot use to the other.
    """
    count = min(len(frames), k)
    rule = (k, threshold, flatness)
    known = finite(scores).cpu()
    rows = [_split(_unit_range(score), 0, count, rule, depth) for score in known]
    if not rows:
        return scores.new_empty((0, count), dtype=torch.int64)
    # The split was decided on the host; what takes the numbers may be elsewhere.
    return padded(rows, count).to(scores.device)


def _unit_range(score: Tensor) -> Tensor:
    if len(score) == 0:
        return score
    return (score - score.min()) / (score.max() - score.min()).clamp(min=1e-12)


def _split(
    score: Tensor, start: int, budget: int, rule: tuple[int, float, float], depth: int
) -> Tensor:
    """Numbers of `budget` frames of a part that begins at `start`; budget <= its length."""
    if budget == 0:
        return score.new_empty(0, dtype=torch.int64)
    k, threshold, flatness = rule
    peaked = float(score[best(score, k)].mean() - score.mean()) > threshold
    if depth == 0 or (peaked and float(score.std(correction=0)) > flatness):
        return best(score, budget) + start
    middle = len(score) // 2
    left, right = score[:middle], score[middle:]
    # An odd frame goes where the highest score is; to the earlier half when they are equal.
    extra = budget % 2 if middle and float(left.max()) >= float(right.max()) else 0
    first = min(budget // 2 + extra, middle)
    second = min(budget - first, len(right))
    return torch.cat(
        [
            _split(left, start, budget - second, rule, depth - 1),
            _split(right, start + middle, second, rule, depth - 1),
        ]
    )
