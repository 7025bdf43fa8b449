"""Greedy keyframe selection: kernels, then the launcher.

Each candidate has one int64 key: its score in a form that sorts as an integer, then its index
turned round, so that the largest key is the next frame to take and no two are equal. A frame that
was dropped, and one that was taken, have keys below those of all candidates.

A round is one launch: every program finds the winner among the best keys that the programs of the
round before left (two buffers in turn), drops its own frames that are like the winner, and leaves
its best key. Frames that are no longer candidates are not read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.selection import require_lengths_inside
from .fill import even_fill_kernel, pad_positions, put_positions
from .launch import launch
from .rows import floored_norm, row_tile, thread_sums, unit_stride, vector
from .tuning import config, name_of

BLOCKS = 512
"""Most programs of one question: each of them reads the best key of all of them."""

DROPPED = tl.constexpr(-(2**63))
TAKEN = tl.constexpr(-(2**63) + 1)
LAST_INDEX = tl.constexpr(2**31 - 1)


@triton.jit
def _keys(b_score, o_n):
    """Order of candidates: NaN first, then by score descending; the lower index among equals."""
    b_score = tl.where(b_score == 0, 0.0, b_score)  # -0 equals 0
    b_bits = b_score.to(tl.int32, bitcast=True)
    b_order = tl.where(b_bits < 0, b_bits ^ 0x7FFFFFFF, b_bits)
    b_order = tl.where(b_score != b_score, 0x7FFFFFFF, b_order)
    return (b_order.to(tl.int64) << 32) | (LAST_INDEX - o_n)


@triton.jit
def _winner(p_best, blocks, BLOCKS: tl.constexpr):
    """The frame with the best key of all blocks, or -1."""
    o_block = tl.arange(0, BLOCKS)
    b_best = tl.max(tl.load(p_best + o_block, mask=o_block < blocks, other=DROPPED), 0)
    return tl.where(b_best > TAKEN, LAST_INDEX - (b_best & LAST_INDEX), -1)


@triton.jit
def _rows_and_block(blocks):
    """Which row of `[B Q, ...]`, and which of its blocks, this program has."""
    return (tl.program_id(0) // blocks).to(tl.int64), (tl.program_id(0) % blocks).to(tl.int64)


@triton.jit(
    do_not_specialize=["N", "Q", "chunk", "blocks", "stride_s_b", "stride_s_q"],
    do_not_specialize_on_alignment=["best_ptr"],
)
def select_start_kernel(
    scores_ptr,
    lengths_ptr,
    keys_ptr,
    best_ptr,
    min_score,
    N,
    Q,
    chunk,
    blocks,
    stride_s_b,
    stride_s_q,
    BLOCK_N: tl.constexpr,
):
    """Keys `[B, Q, N]` of all frames, and the best of each block of `chunk` frames."""
    i_row, i_block = _rows_and_block(blocks)
    i_b = i_row // Q
    length = N
    if lengths_ptr is not None:
        length = tl.minimum(tl.load(lengths_ptr + i_b), N)
    p_score = scores_ptr + i_b * stride_s_b + (i_row % Q) * stride_s_q
    first = i_block * chunk
    last = tl.minimum(first + chunk, N)
    b_best = tl.full([BLOCK_N], DROPPED, tl.int64)
    for start in range(first, last, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        m_n = o_n < last
        b_score = tl.load(p_score + o_n, mask=m_n, other=0.0).to(tl.float32)
        left = m_n & (o_n < length)
        left = left & ((b_score >= tl.cast(min_score, tl.float32)) | (b_score != b_score))
        b_key = tl.where(left, _keys(b_score, o_n), DROPPED)
        tl.store(keys_ptr + i_row * N + o_n, b_key, mask=m_n)
        b_best = tl.maximum(b_best, b_key)
    tl.store(best_ptr + i_row * blocks + i_block, tl.max(b_best, 0))


@triton.jit(
    do_not_specialize=["N", "Q", "chunk", "blocks"],
    do_not_specialize_on_alignment=["best_ptr", "next_best_ptr"],
)
def select_round_kernel(
    f_ptr,
    keys_ptr,
    best_ptr,
    next_best_ptr,
    tau,
    eps,
    N,
    Q,
    D,
    chunk,
    blocks,
    stride_f_b,
    stride_f_n,
    BLOCKS: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
    VEC: tl.constexpr,
):
    """Takes the winner of the round before, drops what is like it, leaves the best of the rest."""
    i_row, i_block = _rows_and_block(blocks)
    i_win = _winner(best_ptr + i_row * blocks, blocks, BLOCKS)

    o_d = tl.arange(0, BLOCK_D)[None, None, :]
    p_f = f_ptr + (i_row // Q) * stride_f_b + o_d
    o_w = tl.zeros([1, BLOCK_W, 1], tl.int64)  # the winner is the same for every row
    p_win = p_f + (o_w + tl.maximum(i_win, 0)) * stride_f_n
    first = i_block * chunk
    last = tl.minimum(first + chunk, N)
    b_best = tl.full([BLOCK_R, BLOCK_W], DROPPED, tl.int64)
    for start in range(first, last, BLOCK_R * BLOCK_W):
        o_n = start + (
            tl.arange(0, BLOCK_R)[:, None] * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
        )  # [R, W]
        m_n = o_n < last
        p_key = keys_ptr + i_row * N + o_n
        b_key = tl.load(p_key, mask=m_n, other=DROPPED)
        left = (b_key > TAKEN) & (o_n != i_win)

        b_ff = tl.zeros([BLOCK_R, BLOCK_W, BLOCK_D // VEC], tl.float32)
        b_fw = b_ff
        b_ww = tl.zeros([1, BLOCK_W, BLOCK_D // VEC], tl.float32)
        for d in range(0, D, BLOCK_D):
            m_d = o_d < D - d
            p = p_f + o_n[:, :, None] * stride_f_n + d
            b_f = tl.load(p, mask=left[:, :, None] & m_d, other=0.0).to(tl.float32)
            b_w = tl.load(p_win + d, mask=m_d, other=0.0).to(tl.float32)
            b_ff += thread_sums(b_f * b_f, VEC)
            b_fw += thread_sums(b_f * b_w, VEC)
            b_ww += thread_sums(b_w * b_w, VEC)
        b_cos = tl.div_rn(tl.sum(b_fw, 2), floored_norm(tl.sum(b_ww, 2), eps))
        b_cos = tl.div_rn(b_cos, floored_norm(tl.sum(b_ff, 2), eps))

        alike = left & (b_cos > tl.cast(tau, tl.float32))
        taken = o_n == i_win
        b_key = tl.where(taken, TAKEN, tl.where(alike, DROPPED, b_key))
        tl.store(p_key, b_key, mask=m_n & (taken | alike))
        b_best = tl.maximum(b_best, b_key)
    tl.store(next_best_ptr + i_row * blocks + i_block, tl.max(tl.max(b_best, 1), 0))


@triton.jit(do_not_specialize=["N", "k", "blocks"], do_not_specialize_on_alignment=["best_ptr"])
def select_positions_kernel(
    keys_ptr,
    best_ptr,
    indices_ptr,
    count_ptr,
    N,
    k,
    blocks,
    BLOCKS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """Frames taken, and the winner of the last round, ascending: `indices [B, Q, k]`."""
    i_row = tl.program_id(0).to(tl.int64)
    i_win = _winner(best_ptr + i_row * blocks, blocks, BLOCKS)
    count = tl.full([], 0, tl.int32)
    for start in range(0, N, BLOCK_N):
        o_n = start + tl.arange(0, BLOCK_N)
        b_key = tl.load(keys_ptr + i_row * N + o_n, mask=o_n < N, other=DROPPED)
        taken = (b_key == TAKEN) | ((o_n == i_win) & (o_n < N))
        count = put_positions(indices_ptr + i_row * k, taken, o_n, count, k)
    pad_positions(indices_ptr + i_row * k, count, k, BLOCK_N)
    tl.store(count_ptr + i_row, count.to(tl.int64))


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
    frames, scores = unit_stride(frames), unit_stride(scores)
    n, d = frames.shape[1:]
    b, q = scores.shape[:2]
    if lengths is not None:
        require_lengths_inside(lengths, n)
        lengths = lengths.to(torch.int64).contiguous()
    device = frames.device
    if n == 0 or k == 0:
        return _none(b, q, k, device)

    tile = config("select_keyframes", dtype=name_of(frames.dtype))
    vec = vector(frames)
    tile |= row_tile(vec, d, tile["num_warps"]) | {"VEC": vec}
    rows = tile["BLOCK_R"] * tile["BLOCK_W"]
    chunk = rows * triton.cdiv(triton.cdiv(n, rows), BLOCKS)
    blocks = triton.cdiv(n, chunk)
    keys = torch.empty(b, q, n, dtype=torch.int64, device=device)
    best = torch.empty(2, b, q, blocks, dtype=torch.int64, device=device)
    grid = (b * q * blocks,)

    lowest = float("-inf") if min_score is None else _fp32(min_score)
    tau = _fp32(tau)
    launch(
        select_start_kernel,
        grid,
        *(scores, lengths, keys, best[0], lowest, n, q, chunk, blocks, *scores.stride()[:2]),
        BLOCK_N=rows,
        num_warps=1,
    )
    rounds = min(k, n)
    for i in range(1, rounds):
        launch(
            select_round_kernel,
            grid,
            *(frames, keys, best[(i - 1) % 2], best[i % 2], tau, eps),
            *(n, q, d, chunk, blocks, *frames.stride()[:2]),
            BLOCKS=BLOCKS,
            **tile,
        )
    indices = torch.empty(b, q, k, dtype=torch.int64, device=device)
    count = torch.empty(b, q, dtype=torch.int64, device=device)
    launch(
        select_positions_kernel,
        (b * q,),
        *(keys, best[(rounds - 1) % 2], indices, count, n, k, blocks),
        BLOCKS=BLOCKS,
        **config("positions"),
    )
    if not fill:
        return indices, count
    filled, total = torch.empty_like(indices), torch.empty_like(count)
    launch(
        even_fill_kernel,
        (b * q,),
        *(indices, count, lengths, filled, total, n, q, k),
        AS_MASK=False,
        **config("even_fill"),
    )
    return filled, total


def _none(b: int, q: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return (
        torch.full((b, q, k), -1, dtype=torch.int64, device=device),
        torch.zeros(b, q, dtype=torch.int64, device=device),
    )


def _fp32(threshold: float) -> float:
    """The number in fp32, where large ones become infinite."""
    return torch.tensor(threshold, dtype=torch.float32).item()
