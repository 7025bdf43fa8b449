"""A determinantal point process: the set of frames that is relevant and spans the most."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import directions, finite, padded

SHARPNESS = 1.0
"""Weight of relevance in the kernel, by the standard deviations of a score from the mean."""
EPS = 1e-6
"""Below this a frame adds nothing to the set."""


def dpp(frames: Tensor, scores: Tensor, k: int, sharpness: float = SHARPNESS) -> Tensor:
    """Greedy search for the set of k frames of the greatest determinant.

    The kernel is `L = diag(r) S diag(r)`, S the cosines of frames, mapped from [-1, 1] to [0, 1] so
    that opposite frames are the least alike, and `r = exp(sharpness * z / 2)` with z the
    score as standard deviations from the mean of its question.

    Args:
        frames: `[N, D]`.
        scores: `[Q, N]`.
        k: keyframes.
        sharpness: 0 to look at diversity only.
    Returns:
        int64 `[Q, min(N, k)]`, -1 where no further frame adds anything. O(N k D + N k^2) time,
        O(N k) memory.
    Source: Chen, Zhang and Zhou 2018, arXiv:1709.05135, algorithm 1.
    """
    count = min(k, len(frames))
    if count == 0 or len(scores) == 0:
        return scores.new_empty((len(scores), count), dtype=torch.int64)
    unit = directions(frames.double())
    return padded([_greedy(unit, score, count, sharpness) for score in finite(scores)], count)


def _greedy(unit: Tensor, score: Tensor, count: int, sharpness: float) -> Tensor:
    """int64 `[<= count]`, in the order in which they are taken."""
    # A spread of 0 leaves all frames equally relevant.
    z = (score - score.mean()) / score.std(correction=0).clamp(min=1e-12)
    quality = torch.exp(sharpness * z / 2)
    # What each frame would add to the determinant, squared lengths of what is left of it.
    left = quality**2
    basis = unit.new_zeros(count, len(unit))
    taken: list[int] = []
    while len(taken) < count:
        number = int(left.argmax())
        if not left[number] > EPS:
            break
        row = quality * quality[number] * (1 + unit @ unit[number]) / 2
        step = len(taken)
        row = (row - basis[:step, number] @ basis[:step]) / left[number].sqrt()
        basis[step] = row
        left = left - row**2
        left[number] = -torch.inf
        taken.append(number)
    return torch.tensor(taken, dtype=torch.int64, device=unit.device)
