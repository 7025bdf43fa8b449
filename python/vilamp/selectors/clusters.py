"""One keyframe for each of k clusters of like frames, whatever is asked."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import directions

ROUNDS = 25
"""Of moving the centres; most videos settle in fewer."""


def clusters(frames: Tensor, scores: Tensor, k: int, rounds: int = ROUNDS) -> Tensor:
    """k-means on the normalised embeddings, then the frame nearest to each centre.

    The first centre is the frame nearest to the mean, each further one the frame farthest from
    those before (so no chance is involved).

    Args:
        frames: `[N, D]`.
        scores: `[Q, N]`; only the number of questions counts.
        k: keyframes.
        rounds: most moves of the centres.
    Returns:
        int64 `[Q, min(N, k)]`, -1 at the end where the video has fewer different frames. O(N k D)
        time a round, O(N k) memory.
    """
    count = min(k, len(frames))
    out = torch.full((count,), -1, dtype=torch.int64, device=frames.device)
    if count:
        unit = directions(frames.float())
        centres = _centres(unit, count, rounds)
        # Two centres may have one nearest frame.
        nearest = torch.cdist(centres, unit).argmin(-1).unique()
        out[: len(nearest)] = nearest
    return out.expand(len(scores), -1)


def _centres(unit: Tensor, count: int, rounds: int) -> Tensor:
    """`[<= count, D]`."""
    first = int((unit - unit.mean(0)).square().sum(-1).argmin())
    numbers, apart = [first], (unit - unit[first]).square().sum(-1)
    while len(numbers) < count and float(apart.max()) > 0:
        number = int(apart.argmax())
        numbers.append(number)
        apart = torch.minimum(apart, (unit - unit[number]).square().sum(-1))
    centres = unit[numbers]
    member = None
    for _ in range(rounds):
        now = torch.cdist(unit, centres).argmin(-1)
        if member is not None and torch.equal(now, member):
            break
        member = now
        size = torch.bincount(member, minlength=len(centres))
        total = torch.zeros_like(centres).index_add_(0, member, unit)
        # A centre without frames stays where it is.
        centres = torch.where(size[:, None] > 0, total / size[:, None].clamp(min=1), centres)
    return centres
