"""The even fill: kernels, then the launcher.

One program has a row. It needs only the sorted list of the frames chosen so far: the gaps between
them, at most one more than there are, say how many frames each gap gets, and the frames of the end
that take the rest are those from some frame on. Both numbers are found by bisection.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .rows import unit_stride
from .tuning import config


@triton.jit
def put_positions(p_out, chosen, o_n, count, k):
    """Appends the chosen of `o_n` to the first k of a list that has `count`; the new count."""
    b_chosen = chosen.to(tl.int32)
    o_slot = count + tl.cumsum(b_chosen, 0) - 1
    tl.store(p_out + o_slot, o_n.to(tl.int64), mask=chosen & (o_slot < k))
    return count + tl.sum(b_chosen, 0)


@triton.jit
def pad_positions(p_out, count, k, BLOCK: tl.constexpr):
    """-1 from `count` to `k`."""
    for start in range(count, k, BLOCK):
        o_slot = start + tl.arange(0, BLOCK)
        tl.store(p_out + o_slot, tl.full([BLOCK], -1, tl.int64), mask=o_slot < k)


@triton.jit(do_not_specialize=["N", "k", "stride_m_row"])
def mask_positions_kernel(
    mask_ptr, positions_ptr, count_ptr, N, k, stride_m_row, BLOCK_N: tl.constexpr
):
    """The first k positions of the ones of each row of `mask [rows, N]`, and how many ones."""
    i_row = tl.program_id(0).to(tl.int64)
    count = tl.full([], 0, tl.int32)
    for start in range(0, N, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        b_mask = tl.load(mask_ptr + i_row * stride_m_row + o_n, mask=o_n < N, other=0)
        count = put_positions(positions_ptr + i_row * k, b_mask != 0, o_n, count, k)
    tl.store(count_ptr + i_row, count.to(tl.int64))


@triton.jit
def _gaps(p_chosen, o_gap, count, n):
    """Start and length of the gaps before the chosen frames, the last one before `n`."""
    m_gap = o_gap <= count
    b_before = tl.load(p_chosen + o_gap - 1, mask=m_gap & (o_gap > 0), other=-1).to(tl.int32)
    b_after = tl.load(p_chosen + o_gap, mask=o_gap < count, other=0).to(tl.int32)
    b_after = tl.where(o_gap < count, b_after, n)
    return b_before + 1, tl.where(m_gap, b_after - b_before - 1, 0), b_after


@triton.jit
def _shares(b_length, distance):
    """How many frames the gaps get, and their spacing."""
    b_share = tl.where(b_length > 0, (b_length + distance - 1) // distance - 1, 0)
    return b_share, (b_length + b_share) // (b_share + 1)


@triton.jit
def _needed(p_chosen, count, n, distance, BLOCK: tl.constexpr):
    """Frames that all gaps get at this distance."""
    b_sum = tl.zeros([BLOCK], tl.int32)
    for start in range(0, count + 1, BLOCK):
        o_gap = start + tl.arange(0, BLOCK)
        _, b_length, _ = _gaps(p_chosen, o_gap, count, n)
        b_share, _ = _shares(b_length, distance)
        b_sum += b_share
    return tl.sum(b_sum, 0)


@triton.jit
def _free_from(p_chosen, count, n, distance, position, BLOCK: tl.constexpr):
    """Frames at and after `position` that are neither chosen nor spaced."""
    b_sum = tl.zeros([BLOCK], tl.int32)
    for start in range(0, count + 1, BLOCK):
        o_gap = start + tl.arange(0, BLOCK)
        b_start, b_length, _ = _gaps(p_chosen, o_gap, count, n)
        b_share, b_step = _shares(b_length, distance)
        b_before = tl.minimum(tl.maximum(position - b_start, 0), b_length)
        # Of the frames at b_step, 2 b_step, .. from the start, those before the position.
        b_spaced = tl.minimum(tl.maximum(b_before - 1, 0) // tl.maximum(b_step, 1), b_share)
        b_sum += b_length - b_before - (b_share - b_spaced)
    return tl.sum(b_sum, 0)


@triton.jit
def _put(p_out, o_slot, o_n, m_n, AS_MASK: tl.constexpr):
    """Frames `o_n` as ones of a mask, or as numbers in their slots of a sorted list."""
    if AS_MASK:
        tl.store(p_out + o_n, tl.full(o_n.shape, 1, tl.uint8), mask=m_n)
    else:
        tl.store(p_out + o_slot, o_n.to(tl.int64), mask=m_n)


@triton.jit(do_not_specialize=["N", "Q", "k"])
def even_fill_kernel(
    chosen_ptr,
    count_ptr,
    lengths_ptr,
    out_ptr,
    total_ptr,
    N,
    Q,
    k,
    AS_MASK: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Completes the sorted `chosen [rows, k]`, `count [rows]` to `min(length, k)` frames.

    `out` is the longer list `[rows, k]` with its `total [rows]`, or, AS_MASK, `[rows, N]` where
    the frames are set to 1. The `Q` rows of one video share its length.
    """
    i_row = tl.program_id(0).to(tl.int64)
    n = N.to(tl.int32)
    if lengths_ptr is not None:
        n = tl.minimum(tl.maximum(tl.load(lengths_ptr + i_row // Q), 0), N).to(tl.int32)
    p_chosen = chosen_ptr + i_row * k
    count = tl.load(count_ptr + i_row).to(tl.int32)
    budget = tl.maximum(k.to(tl.int32) - count, 0)
    count = tl.minimum(count, k.to(tl.int32))

    # The smallest distance whose frames the budget has.
    low = tl.full([], 1, tl.int32)
    high = tl.maximum(n, 1)
    while low < high:
        middle = (low + high) // 2
        fits = _needed(p_chosen, count, n, middle, BLOCK) <= budget
        high = tl.where(fits, middle, high)
        low = tl.where(fits, low, middle + 1)
    distance = low

    # The first frame from which on all frames are taken by what is left.
    rest = budget - _needed(p_chosen, count, n, distance, BLOCK)
    low = tl.full([], 0, tl.int32)
    high = n
    while low < high:
        middle = (low + high) // 2
        fits = _free_from(p_chosen, count, n, distance, middle, BLOCK) <= rest
        high = tl.where(fits, middle, high)
        low = tl.where(fits, low, middle + 1)
    tail = low

    p_out = out_ptr + i_row * (N if AS_MASK else k)
    spaced = tl.full([], 0, tl.int32)
    for start in range(0, count + 1, BLOCK):
        o_gap = start + tl.arange(0, BLOCK)
        b_start, b_length, b_after = _gaps(p_chosen, o_gap, count, n)
        b_share, b_step = _shares(b_length, distance)
        o_slot = o_gap + spaced + tl.cumsum(b_share, 0)
        _put(p_out, o_slot, b_after, (o_gap < count) & (b_after < tail), AS_MASK)
        for i in range(1, tl.max(b_share, 0) + 1):
            o_n = b_start + i * b_step
            _put(p_out, o_slot - b_share + i - 1, o_n, (i <= b_share) & (o_n < tail), AS_MASK)
        spaced += tl.sum(b_share, 0)

    total = tl.minimum(n, k.to(tl.int32))
    for start in range(tail, n, BLOCK):
        o_n = start + tl.arange(0, BLOCK)
        _put(p_out, total - n + o_n, o_n, o_n < n, AS_MASK)
    if not AS_MASK:
        pad_positions(p_out, total, k, BLOCK)
        tl.store(total_ptr + i_row, total.to(tl.int64))


def fill_keyframes(mask: Tensor, k: int) -> Tensor:
    """Bool `[..., N]` -> the same with `min(N, k)` ones; a mask with `k` or more is unchanged."""
    out = mask.clone(memory_format=torch.contiguous_format)
    n = mask.shape[-1]
    if mask.numel() == 0 or k == 0:
        return out
    rows = unit_stride(mask.reshape(-1, n)).view(torch.uint8)
    chosen = torch.empty(rows.shape[0], k, dtype=torch.int64, device=mask.device)
    count = torch.empty(rows.shape[0], dtype=torch.int64, device=mask.device)
    grid = (rows.shape[0],)
    launch(
        mask_positions_kernel,
        grid,
        *(rows, chosen, count, n, k, rows.stride(0)),
        **config("positions"),
    )
    launch(
        even_fill_kernel,
        grid,
        *(chosen, count, None, out.view(torch.uint8), None, n, 1, k),
        AS_MASK=True,
        **config("even_fill"),
    )
    return out
