"""Maximal marginal relevance: relevant frames that are unlike those already taken."""

from __future__ import annotations

import torch
from torch import Tensor

from .rows import ascending, directions, finite

BALANCE = 0.5
"""Weight of relevance; the rest is the weight of being unlike what was taken."""


def mmr(frames: Tensor, scores: Tensor, k: int, balance: float = BALANCE) -> Tensor:
    """Take frames one by one: next the one of the greatest
    `balance * score - (1 - balance) * (greatest cosine with a frame taken)`.

    Args:
        frames: `[N, D]`.
        scores: `[Q, N]`.
        k: keyframes.
        balance: from 0 to 1.
    Returns:
        int64 `[Q, min(N, k)]`. Time and memory O(N) for each frame taken.
    Source: Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking".
    """
    unit = directions(frames.float())
    relevance = finite(scores).float()
    questions = torch.arange(len(scores), device=scores.device)
    alike = torch.full_like(relevance, -torch.inf)
    gone = torch.zeros_like(relevance, dtype=torch.bool)
    taken = []
    for step in range(min(k, len(frames))):
        # The first has nothing to be unlike: the most relevant.
        value = relevance if step == 0 else balance * relevance - (1 - balance) * alike
        # argmax gives the first of equals.
        number = value.masked_fill(gone, -torch.inf).argmax(-1)
        gone[questions, number] = True
        alike = torch.maximum(alike, unit[number] @ unit.T)
        taken.append(number)
    if not taken:
        return scores.new_empty((len(scores), 0), dtype=torch.int64)
    return ascending(torch.stack(taken, -1))
