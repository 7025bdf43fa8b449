"""Greedy keyframe selection, the even fill, and which frame each frame is compared with.

Everything stays on the device: no step looks at a value to decide what runs next, except on a CPU,
where looking is free.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .numerics import Unit, acc_dtype, exact_matmul


def select_keyframes(
    frames: Tensor,
    scores: Tensor,
    k: int,
    tau: float,
    min_score: float | None,
    fill: bool,
    lengths: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`frames [B, N, D]`, `scores [B, Q, N]` -> `indices [B, Q, k]` (-1 pads), `count [B, Q]`."""
    n = frames.shape[1]
    inside = _inside(lengths, frames)
    mask = _greedy(frames, scores, min(k, n), tau, min_score, inside, eps)
    if fill:
        mask = _fill(mask, k, inside)
    return _positions(mask, k), mask.sum(-1)


def require_lengths_inside(lengths: Tensor, n: int) -> None:
    """ValueError unless lengths on a CPU are in 0..n; elsewhere looking would mean waiting."""
    if lengths.device.type == "cpu" and ((lengths < 0) | (lengths > n)).any():
        raise ValueError(
            f"select_keyframes: wanted lengths in 0..{n}; given values from"
            f" {lengths.min().item()} to {lengths.max().item()}"
        )


def _inside(lengths: Tensor | None, frames: Tensor) -> Tensor:
    """`[B, 1, N]`: which frames exist."""
    positions = torch.arange(frames.shape[1], device=frames.device)
    if lengths is None:
        return (positions >= 0).expand(frames.shape[0], 1, -1)
    require_lengths_inside(lengths, frames.shape[1])
    return positions < lengths.view(-1, 1, 1)


@exact_matmul()
def _greedy(
    frames: Tensor,
    scores: Tensor,
    rounds: int,
    tau: float,
    min_score: float | None,
    inside: Tensor,
    eps: float,
) -> Tensor:
    """The chosen frames `[B, Q, N]`: each round takes the best one left and drops those like it."""
    acc = acc_dtype(frames)
    n = frames.shape[1]
    unit = Unit.of(frames.to(acc), eps).rows
    positions = torch.arange(n, device=frames.device)

    # A stable sort makes every rank different: NaN first, then by score, then by lower index.
    order = torch.sort(scores.to(acc), dim=-1, descending=True, stable=True).indices
    rank = torch.empty_like(order).scatter_(-1, order, positions.expand_as(order))

    left = inside.expand(scores.shape)
    if min_score is not None:
        left = left & ~(scores.to(acc) < torch.full((), min_score, dtype=acc, device=frames.device))
    threshold = torch.full((), tau, dtype=acc, device=frames.device)
    chosen = torch.zeros_like(left)
    for _ in range(rounds):
        best = torch.where(left, rank, n).amin(-1, keepdim=True)  # [B, Q, 1]
        found = best < n
        if frames.device.type == "cpu" and not found.any():
            break
        frame = order.gather(-1, best.clamp_max(n - 1))
        taken = unit.gather(1, frame.expand(-1, -1, frames.shape[2]))  # [B, Q, D]
        alike = taken @ unit.mT > threshold
        itself = positions == frame
        chosen |= itself & found
        left = left & ~(alike | itself)
    return chosen


def _positions(mask: Tensor, k: int) -> Tensor:
    """Ascending positions of the ones of `[..., N]`, at most `k`, padded with -1 to `k`."""
    slot = mask.cumsum(-1) - 1
    # One slot more than asked for takes the writes of all frames that are not chosen.
    slot = torch.where(mask & (slot < k), slot, k)
    out = torch.full((*mask.shape[:-1], k + 1), -1, dtype=torch.int64, device=mask.device)
    positions = torch.arange(mask.shape[-1], device=mask.device).expand(mask.shape)
    return out.scatter_(-1, slot, positions)[..., :k].clone()


def fill_keyframes(mask: Tensor, k: int) -> Tensor:
    """Bool `[..., N]` -> the same with `min(N, k)` ones; a mask with `k` or more is unchanged."""
    # In one layout for masks of any: comparisons and the like keep that of their operands.
    return _fill(mask, k, torch.ones_like(mask)).contiguous()


def fill_chosen(indices: Tensor, n: int, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """A choice `indices [B, Q, k]` (-1 pads) of `n` frames, filled: indices and count."""
    k = indices.shape[-1]
    # One column more than frames takes the padding.
    mask = torch.zeros(*indices.shape[:-1], n + 1, dtype=torch.bool, device=indices.device)
    mask = mask.scatter_(-1, torch.where(indices < 0, n, indices), True)[..., :n]
    positions = torch.arange(n, device=indices.device)
    end = n if lengths is None else lengths.view(-1, 1, 1)
    mask = _fill(mask, k, positions < end)
    return _positions(mask, k), mask.sum(-1)


def _fill(mask: Tensor, k: int, inside: Tensor) -> Tensor:
    """The published even fill, over the frames `inside`; see docs/numerics.md for the rule."""
    n = mask.shape[-1]
    if n == 0:
        return mask.clone()
    positions = torch.arange(n, device=mask.device).expand(mask.shape)
    inside = inside.expand(mask.shape)
    free = inside & ~mask
    start, length = _runs(free, positions)
    budget = (k - mask.sum(-1, keepdim=True)).clamp_min(0)

    # The smallest distance whose spacing fits the budget: the number needed falls as it grows.
    gap_lengths = torch.where(free & (positions == start), length, 1)
    low, high = torch.ones_like(budget), torch.full_like(budget, n)
    for _ in range(n.bit_length()):
        middle = (low + high) // 2
        fits = (_ceil_div(gap_lengths, middle) - 1).sum(-1, keepdim=True) <= budget
        high = torch.where(fits, middle, high)
        low = torch.where(fits, low, middle)

    per_gap = _ceil_div(length, high) - 1
    step = _ceil_div(length, per_gap + 1)
    offset = positions - start
    spaced = free & (offset > 0) & (offset % step == 0) & (offset // step <= per_gap)

    # What is left goes to the last free frames: last gap first, each gap from its end.
    still_free = free & ~spaced
    from_the_end = still_free.sum(-1, keepdim=True) - still_free.cumsum(-1) + still_free
    rest = still_free & (from_the_end <= budget - spaced.sum(-1, keepdim=True))
    return mask | spaced | rest


def _runs(free: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Start and length of the run of ones around each one of `free`; (position, 1) elsewhere."""
    n = free.shape[-1]
    start = torch.where(free, -1, positions + 1).cummax(-1).values.clamp_min(0)
    end = torch.where(free, n, positions).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(free, start, positions), torch.where(free, end - start, 1)


def _ceil_div(a: Tensor, b: Tensor) -> Tensor:
    return (a + b - 1) // b


def require_indices_inside(indices: Tensor, n: int) -> None:
    """ValueError unless indices on a CPU are in -1..n-1; elsewhere looking would mean waiting."""
    if indices.device.type == "cpu" and ((indices < -1) | (indices >= n)).any():
        raise ValueError(
            f"reference_frames: wanted indices in -1..{n - 1}; given values from "
            f"{indices.min().item()} to {indices.max().item()}"
        )


def reference_frames(indices: Tensor, n: int, policy: str) -> Tensor:
    """`indices [B, Q, K]` -> for each of `n` frames the frame it is compared with, or -1."""
    device = indices.device
    indices = indices.to(torch.int64)
    require_indices_inside(indices, n)
    known = (indices >= 0) & (indices < n)
    positions = torch.arange(n, device=device).expand(*indices.shape[:-1], n)
    # One column more than frames takes the padding.
    is_key = torch.zeros(*indices.shape[:-1], n + 1, dtype=torch.bool, device=device)
    is_key = is_key.scatter_(-1, torch.where(known, indices, n), True)[..., :n]
    if n == 0:
        return positions.clone()

    before = torch.where(is_key, positions, -1).cummax(-1).values
    if policy == "preceding":
        return before
    if policy == "released":
        # The published code looks up the keyframe's ordinal where its number was meant.
        return torch.where(before >= 0, is_key.cumsum(-1) - 1, positions)
    none_after = 2 * n
    after = torch.where(is_key, positions, none_after).flip(-1).cummin(-1).values.flip(-1)
    later_is_nearer = (before < 0) | (after - positions < positions - before)
    return torch.where(later_is_nearer & (after < none_after), after, before)
