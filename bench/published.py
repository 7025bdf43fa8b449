"""What the published code computes, as one plain vectorised implementation of each op.

Written from a description of its behaviour in words and from the paper's formulas, in the dtype of
the inputs; `tests/test_bench.py` checks it against recorded results of the published code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, linear, normalize

from vilamp_kernels import Projection


def similarity(frames: Tensor, queries: Tensor) -> Tensor:
    """Cosines `[Q, N]`: both sides normalised, then one product."""
    return normalize(queries, dim=-1) @ normalize(frames, dim=-1).mT


def select(
    frames: Tensor, scores: Tensor, k: int, tau: float, min_score: float | None = None
) -> Tensor:
    """The chosen frames as bool `[N]`, for `scores [N]`: all cosines N x N, a sort, a loop."""
    alike = similarity(frames, frames) > tau
    falling, order = scores.sort(descending=True)
    chosen, marked = (torch.zeros(len(scores), dtype=torch.bool) for _ in range(2))
    count = 0
    for frame, score in zip(order.tolist(), falling.tolist(), strict=True):
        if count == k or (min_score is not None and score < min_score):
            break
        if marked[frame]:
            continue
        chosen[frame] = True
        marked |= alike[frame]
        count += 1
    return chosen


def fill(mask: Tensor, k: int) -> Tensor:
    """A choice `[N]` completed to min(N, k): even spacing in the gaps, the rest from the end."""
    chosen = mask.tolist()
    left = k - sum(chosen)
    if left <= 0:
        return mask.clone()
    gaps, start = [], 0
    for stop in [*(i for i, one in enumerate(chosen) if one), len(chosen)]:
        if stop > start:
            gaps.append((start, stop - start))
        start = stop + 1
    distance = 1
    while sum(math.ceil(length / distance) - 1 for _, length in gaps) > left:
        distance += 1
    for start, length in gaps:
        count = math.ceil(length / distance) - 1
        for i in range(1, count + 1):
            chosen[start + i * math.ceil(length / (count + 1))] = True
        left -= count
    for start, length in reversed(gaps):
        for i in reversed(range(start, start + length)):
            if left == 0:
                return torch.tensor(chosen)
            if not chosen[i]:
                chosen[i] = True
                left -= 1
    return torch.tensor(chosen, dtype=torch.bool)


def merge(
    patches: Tensor,
    query: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: float,
    maps: Projection | None = None,
) -> Tensor:
    """Tokens `[N, C]` of `patches [N, M, C]` for one `query [1, D]`; `assignment [N]`.

    The query is repeated to every patch and the keyframes to every frame; with maps there are
    four projected copies, and a last linear layer in them runs on all patches first.
    """
    if maps is not None and maps.output_weight is not None:
        patches = linear(patches, maps.output_weight, maps.output_bias)
        references = linear(references, maps.output_weight, maps.output_bias)
    text = query.repeat(patches.shape[0], patches.shape[1], 1)  # [N, M, D]
    keys = references[assignment]  # [N, M, C]
    if maps is None:
        sides = (patches, text), (patches, keys)
    else:
        sides = (
            (linear(patches, maps.w_iq, maps.b_iq), linear(text, maps.w_q, maps.b_q)),
            (linear(patches, maps.w_ik, maps.b_ik), linear(keys, maps.w_k, maps.b_k)),
        )
    relevance, redundancy = (cosine_similarity(a, b, dim=-1) for a, b in sides)
    weights = ((relevance - redundancy) / alpha).softmax(-1)
    return (weights.unsqueeze(-1) * patches).sum(1)
