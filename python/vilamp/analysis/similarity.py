"""Whether the frames that hold the attention look like each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_FRAMES = 256
"""Of the frames at the top, so many are compared: pairs grow with the square."""


@dataclass(frozen=True)
class Likeness:
    """Mean cosine between two frames of a set."""

    frames: int
    top: float
    """Of the frames with most attention."""
    random: float
    """Of as many random frames, mean over the draws."""
    spread: float
    """Standard deviation over the draws."""


def likeness(
    features: Tensor, shares: Tensor, count: int, *, draws: int = 100, seed: int = 0
) -> Likeness | None:
    """Compare the `count` frames of most attention with random ones.

    Args:
        features: `[F, C]`, what stands for each frame.
        shares: `[F]`, attention of each frame.
        count: how many frames are at the top; cut to `MOST_FRAMES`.
        draws: sets of random frames.
        seed: of the draws.
    Returns:
        None with fewer than two frames.
    """
    count = min(count, MOST_FRAMES, len(features))
    if count < 2:
        return None
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randperm(len(unit), generator=generator, device="cpu") for _ in range(draws)]
    random = torch.tensor([_mean_cosine(unit[few[:count]]) for few in drawn], device="cpu")
    # Equal shares keep the order of the frames, as everywhere.
    top = shares.sort(descending=True, stable=True).indices[:count].to(unit.device)
    return Likeness(
        count, _mean_cosine(unit[top]), float(random.mean()), float(random.std(correction=0))
    )


def _mean_cosine(unit: Tensor) -> float:
    """Mean over all pairs of rows of `[n, C]`, without the matrix of pairs."""
    n = len(unit)
    total = unit.double().sum(0)
    return float((total.dot(total) - unit.double().pow(2).sum()) / (n * (n - 1)))
