"""The ops written once more, as plainly as possible: loops and stock functions, any dtype.

They share no code with the library. In fp64 they are the truth.
"""

import math

import torch
from torch.nn.functional import cosine_similarity, linear


def similarity(frames, queries):
    """`[B, N, D]`, `[B, Q, D]` -> `[B, Q, N]`."""
    return cosine_similarity(queries[:, :, None], frames[:, None], dim=-1, eps=1e-8)


def select(frames, scores, k, tau, min_score=None):
    """Chosen frames, in the order of choice, of `frames [N, D]` by `scores [N]`."""
    order = sorted(
        range(len(scores)),
        key=lambda i: (not math.isnan(scores[i]), -scores[i] if scores[i] == scores[i] else 0, i),
    )
    chosen = []
    for i in order:
        if len(chosen) == k:
            break
        if min_score is not None and scores[i] < min_score:
            continue
        alike = [cosine_similarity(frames[i], frames[j], dim=0, eps=1e-8) for j in chosen]
        if not any(value > tau for value in alike):
            chosen.append(i)
    return chosen


def fill(mask, k):
    """The published even fill of a list of bools, in its words."""
    mask, n = list(mask), len(mask)
    left = k - sum(mask)
    if left <= 0 or n == 0:
        return mask
    gaps, i = [], 0
    while i < n:
        j = i
        while j < n and not mask[j]:
            j += 1
        if j > i:
            gaps.append((i, j - i))
        i = max(j, i + 1)
    distance = 1
    while sum(math.ceil(length / distance) - 1 for _, length in gaps) > left:
        distance += 1
    for start, length in gaps:
        count = math.ceil(length / distance) - 1
        for i in range(1, count + 1):
            mask[start + i * math.ceil(length / (count + 1))] = True
        left -= count
    for start, length in reversed(gaps):
        for i in reversed(range(start, start + length)):
            if left and not mask[i]:
                mask[i] = True
                left -= 1
    return mask


def reference_frames(keyframes, n, policy):
    """The frame that each of `n` frames is compared with, for a list of keyframes."""
    keyframes = sorted(keyframes)
    out = []
    for frame in range(n):
        before = [p for p in keyframes if p <= frame]
        if policy == "preceding":
            out.append(before[-1] if before else -1)
        elif policy == "released":
            out.append(len(before) - 1 if before else frame)
        else:
            out.append(min(keyframes, key=lambda p: (abs(p - frame), p), default=-1))
    return out


def pool(patches, queries, references, assignment, alpha, lam, maps=None):
    """Tokens `[Q, N, C]` and weights `[Q, N, M]` of one video; `maps` as a Projection."""
    if maps is not None and maps.output_weight is not None:
        patches = linear(patches, maps.output_weight, maps.output_bias)
        references = linear(references, maps.output_weight, maps.output_bias)
    tokens, weights = [], []
    for query, rows in zip(queries, assignment.tolist(), strict=True):
        for x, row in zip(patches, rows, strict=True):
            key = None if row == -1 else x if row == -2 else references[row]
            if maps is None:
                relevance = cosine_similarity(x, query[None], dim=-1, eps=1e-8)
                redundancy = key is not None and cosine_similarity(x, key, dim=-1, eps=1e-8)
            else:
                relevance = cosine_similarity(
                    linear(x, maps.w_iq, maps.b_iq), linear(query[None], maps.w_q, maps.b_q)
                )
                redundancy = key is not None and cosine_similarity(
                    linear(x, maps.w_ik, maps.b_ik), linear(key, maps.w_k, maps.b_k)
                )
            logits = relevance if key is None else relevance - lam * redundancy
            weight = (logits / alpha).softmax(0)
            tokens.append((weight[:, None] * x).sum(0))
            weights.append(weight)
    q, n, m = queries.shape[0], patches.shape[0], patches.shape[1]
    if not tokens:
        return patches.new_empty(q, n, patches.shape[2]), patches.new_empty(q, n, m)
    return torch.stack(tokens).view(q, n, -1), torch.stack(weights).view(q, n, m)
