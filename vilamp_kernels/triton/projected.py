"""Projected pooling: matrix products whose results are used where they stand, then the pooling.

Four launches. Two map the few rows that every frame needs: the questions, and the reference frames
in use. The third is the work: it multiplies all patches with both maps and keeps two cosines per
patch. The fourth makes weights of the cosines and reads the patches once more for their sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.pooling import check_assignment, empty_outputs
from .launch import launch
from .maps import Map, MappedRows, map_rows, mapped_tile, tile_of
from .pool_by_cosines import pool_by_cosines
from .rows import floored_norm, unit_stride

BANK_BYTES = 512 << 20
"""Most bytes of mapped reference frames. A bank that may need more, such as all frames of a
video, has its frames pooled in chunks."""

MAX_QUESTIONS = 4
"""Questions that share one product of the patches; more are dealt with in rounds."""


@triton.jit(do_not_specialize=["N", "M", "Q", "S", "p_tiles_q", "p_tiles_k"])
def projected_cosines_kernel(
    x_ptr,
    slot_ptr,
    query_ptr,
    query_squares_ptr,
    bank_ptr,
    bank_squares_ptr,
    w_iq_ptr,
    b_iq_ptr,
    w_ik_ptr,
    b_ik_ptr,
    w_k_ptr,
    b_k_ptr,
    cos_query_ptr,
    cos_key_ptr,
    eps,
    N,
    M,
    Q,
    S,
    C,
    P,
    p_tiles_q,
    p_tiles_k,
    stride_x_b: tl.int64,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_iq_part: tl.int64,
    stride_iq_p: tl.int64,
    stride_ik_part: tl.int64,
    stride_ik_p: tl.int64,
    stride_k_part: tl.int64,
    stride_k_p: tl.int64,
    BLOCK_Q: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Cosines `[B, Q, N, M]` of mapped patches with mapped questions, and with their mapped
    reference patches: one program, BLOCK_M patches, BLOCK_Q questions, one kind of product.

    Rows are counted through all frames, so that no tile is padded but the last. The programs of a
    tile follow each other: the second finds the patches in the L2 cache. The third has work only
    where a frame is its own reference.
    """
    i_tile = (tl.program_id(0) // 3).to(tl.int64)
    i_b = tl.program_id(1).to(tl.int64)
    i_q = tl.program_id(2) * BLOCK_Q
    # Rows past the end are the last one again: computed, not stored.
    o_row = i_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = tl.cast(N, tl.int64) * M
    m_row = o_row < rows
    o_row = tl.minimum(o_row, rows - 1)
    o_n = o_row // M
    o_m = o_row % M
    p_x = x_ptr + i_b * stride_x_b + o_n * stride_x_n + o_m * stride_x_m
    n_q = tl.minimum(Q - i_q, BLOCK_Q)
    i_bq = i_b * Q + i_q
    i_kind = tl.program_id(0) % 3
    if i_kind == 0:
        _cosines_with_queries(
            p_x,
            query_ptr + i_bq * P,
            query_squares_ptr + i_b * p_tiles_q * Q + i_q,
            w_iq_ptr,
            b_iq_ptr,
            cos_query_ptr + i_bq * rows + o_row,
            m_row,
            rows,
            eps,
            Q,
            n_q,
            C,
            P,
            p_tiles_q,
            stride_iq_part,
            stride_iq_p,
            BLOCK_Q,
            PARTS,
            BLOCK_M,
            BLOCK_P,
            BLOCK_K,
            PRECISION,
        )
    elif i_kind == 1:
        _cosines_with_keys(
            p_x,
            slot_ptr + i_bq * N + o_n,
            bank_ptr + (i_b * S * M + o_m) * P,
            bank_squares_ptr + i_b * S * p_tiles_k * M + o_m,
            w_ik_ptr,
            b_ik_ptr,
            cos_key_ptr + i_bq * rows + o_row,
            m_row,
            rows,
            eps,
            N,
            M,
            n_q,
            C,
            P,
            p_tiles_k,
            stride_ik_part,
            stride_ik_p,
            BLOCK_Q,
            PARTS,
            BLOCK_M,
            BLOCK_P,
            BLOCK_K,
            PRECISION,
        )
    else:
        _cosines_with_themselves(
            p_x,
            slot_ptr + i_bq * N + o_n,
            w_ik_ptr,
            b_ik_ptr,
            w_k_ptr,
            b_k_ptr,
            cos_key_ptr + i_bq * rows + o_row,
            m_row,
            rows,
            eps,
            N,
            n_q,
            C,
            P,
            stride_ik_part,
            stride_ik_p,
            stride_k_part,
            stride_k_p,
            BLOCK_Q,
            PARTS,
            BLOCK_M,
            BLOCK_P // 2,  # two tiles at a time
            BLOCK_K,
            PRECISION,
        )


@triton.jit
def _cosines_with_queries(
    p_x,
    p_query,
    p_squares,
    w_ptr,
    bias_ptr,
    p_out,
    m_row,
    rows,
    eps,
    Q,
    n_q,
    C,
    P,
    p_tiles,
    stride_w_part,
    stride_w_p,
    BLOCK_Q: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    o_q = tl.arange(0, BLOCK_Q)[None, :]
    b_yy = tl.zeros([BLOCK_M], tl.float32)
    b_yt = tl.zeros([BLOCK_M, BLOCK_Q], tl.float32)
    for p in tl.range(0, P, BLOCK_P, num_stages=1):
        o_p = p + tl.arange(0, BLOCK_P)
        m_p = o_p < P
        o_w = tl.minimum(o_p, P - 1)
        p_w = w_ptr + o_w.to(tl.int64) * stride_w_p
        b_y = mapped_tile(p_x, p_w, bias_ptr + o_w, stride_w_part, C, PARTS, BLOCK_K, PRECISION)
        b_y = tl.where(m_p[None, :], b_y, 0.0)
        b_yy += tl.sum(b_y * b_y, 1)
        for q in tl.range(0, n_q, num_stages=1):
            b_t = tl.load(p_query + q * P + o_p, mask=m_p, other=0.0)
            b_yt += tl.where(o_q == q, tl.sum(b_y * b_t[None, :], 1)[:, None], 0.0)
    b_tt = tl.zeros([1, BLOCK_Q], tl.float32)
    for i_tile in tl.range(0, p_tiles, num_stages=1):
        b_tt += tl.load(p_squares + i_tile * Q + o_q, mask=o_q < n_q, other=0.0)
    b_cos = _cosine(b_yt, b_tt, b_yy, eps)
    m_out = m_row[:, None] & (o_q < n_q)
    tl.store(p_out[:, None] + o_q * rows, b_cos, mask=m_out)


@triton.jit
def _cosines_with_keys(
    p_x,
    p_slot,
    p_bank,
    p_squares,
    w_ptr,
    bias_ptr,
    p_out,
    m_row,
    rows,
    eps,
    N,
    M,
    n_q,
    C,
    P,
    p_tiles,
    stride_w_part,
    stride_w_p,
    BLOCK_Q: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    o_q = tl.arange(0, BLOCK_Q)[None, :]
    b_slots = tl.load(p_slot[:, None] + o_q * N, mask=o_q < n_q, other=-2)  # [BLOCK_M, BLOCK_Q]
    some = tl.max(tl.max((b_slots >= 0).to(tl.int32), 1), 0)
    b_yy = tl.zeros([BLOCK_M], tl.float32)
    b_yk = tl.zeros([BLOCK_M, BLOCK_Q], tl.float32)
    # Frames without a reference cost no product.
    for p in tl.range(0, P * some, BLOCK_P, num_stages=1):
        o_p = p + tl.arange(0, BLOCK_P)
        m_p = o_p < P
        o_w = tl.minimum(o_p, P - 1)
        p_w = w_ptr + o_w.to(tl.int64) * stride_w_p
        b_y = mapped_tile(p_x, p_w, bias_ptr + o_w, stride_w_part, C, PARTS, BLOCK_K, PRECISION)
        b_y = tl.where(m_p[None, :], b_y, 0.0)
        b_yy += tl.sum(b_y * b_y, 1)
        # Keys come half a tile at a time: with a whole one, registers would not do.
        b_left, b_right = _halves(b_y)
        o_left = p + tl.arange(0, BLOCK_P // 2)
        o_right = o_left + BLOCK_P // 2
        for q in tl.range(0, n_q, num_stages=1):
            b_slot = tl.load(p_slot + q * N)
            p_k = (p_bank + b_slot.to(tl.int64) * M * P)[:, None]
            m_k = (b_slot >= 0)[:, None]
            b_k = tl.load(p_k + o_left[None, :], mask=m_k & (o_left < P)[None, :], other=0.0)
            b_sum = tl.sum(b_left * b_k, 1)
            b_k = tl.load(p_k + o_right[None, :], mask=m_k & (o_right < P)[None, :], other=0.0)
            b_sum += tl.sum(b_right * b_k, 1)
            b_yk += tl.where(o_q == q, b_sum[:, None], 0.0)
    b_kk = tl.zeros([BLOCK_M, BLOCK_Q], tl.float32)
    for i_tile in tl.range(0, p_tiles, num_stages=1):
        p_kk = p_squares[:, None] + (b_slots.to(tl.int64) * p_tiles + i_tile) * M
        b_kk += tl.load(p_kk, mask=b_slots >= 0, other=0.0)
    b_cos = tl.where(b_slots == -1, 0.0, _cosine(b_yk, b_kk, b_yy, eps))
    tl.store(p_out[:, None] + o_q * rows, b_cos, mask=m_row[:, None] & (b_slots != -2))


@triton.jit
def _cosines_with_themselves(
    p_x,
    p_slot,
    w_ptr,
    bias_ptr,
    w_k_ptr,
    b_k_ptr,
    p_out,
    m_row,
    rows,
    eps,
    N,
    n_q,
    C,
    P,
    stride_w_part,
    stride_w_p,
    stride_k_part,
    stride_k_p,
    BLOCK_Q: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    o_q = tl.arange(0, BLOCK_Q)[None, :]
    b_slots = tl.load(p_slot[:, None] + o_q * N, mask=o_q < n_q, other=-1)  # [BLOCK_M, BLOCK_Q]
    some = tl.max(tl.max((b_slots == -2).to(tl.int32), 1), 0)
    b_yy = tl.zeros([BLOCK_M], tl.float32)
    b_yk = tl.zeros([BLOCK_M], tl.float32)
    b_kk = tl.zeros([BLOCK_M], tl.float32)
    for p in tl.range(0, P * some, BLOCK_P, num_stages=1):
        o_p = p + tl.arange(0, BLOCK_P)
        m_p = (o_p < P)[None, :]
        o_w = tl.minimum(o_p, P - 1)
        p_w = w_k_ptr + o_w.to(tl.int64) * stride_k_p
        b_k = mapped_tile(p_x, p_w, b_k_ptr + o_w, stride_k_part, C, PARTS, BLOCK_K, PRECISION)
        b_k = tl.where(m_p, b_k, 0.0)
        b_kk += tl.sum(b_k * b_k, 1)
        p_w = w_ptr + o_w.to(tl.int64) * stride_w_p
        b_y = mapped_tile(p_x, p_w, bias_ptr + o_w, stride_w_part, C, PARTS, BLOCK_K, PRECISION)
        b_y = tl.where(m_p, b_y, 0.0)
        b_yy += tl.sum(b_y * b_y, 1)
        b_yk += tl.sum(b_y * b_k, 1)
    b_cos = _cosine(b_yk[:, None], b_kk[:, None], b_yy, eps)
    tl.store(p_out[:, None] + o_q * rows, b_cos, mask=m_row[:, None] & (b_slots == -2))


@triton.jit
def _halves(b_y):
    """The left and the right half of a tile, in the registers where they are."""
    b_y = tl.reshape(b_y, [b_y.shape[0], 2, b_y.shape[1] // 2])
    return tl.split(tl.permute(b_y, [0, 2, 1]))


@triton.jit
def _cosine(b_dot, b_squares, b_yy, eps):
    """Cosines `[BLOCK_M, BLOCK_Q]` from dot products and sums of squares."""
    b_cos = tl.div_rn(b_dot, tl.broadcast_to(floored_norm(b_squares, eps), b_dot.shape))
    return tl.div_rn(b_cos, tl.broadcast_to(floored_norm(b_yy, eps)[:, None], b_dot.shape))


def projected_differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    w_iq: Tensor,
    b_iq: Tensor,
    w_ik: Tensor,
    b_ik: Tensor,
    w_q: Tensor,
    b_q: Tensor,
    w_k: Tensor,
    b_k: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    return_weights: bool,
) -> tuple[Tensor, Tensor]:
    """See `_library.py` for the shapes."""
    check_assignment("projected_differential_pool", assignment, references.shape[1])
    patches, references = unit_stride(patches), unit_stride(references)
    tokens, weights = empty_outputs(patches, queries.shape[1], return_weights)
    if tokens.numel() == weights.numel() == 0:
        return tokens, weights
    mapped_queries = map_queries(queries, w_q, b_q)
    dtype = patches.dtype
    for_query, for_key, of_key = (
        Map.of(w, bias, dtype) for w, bias in ((w_iq, b_iq), (w_ik, b_ik), (w_k, b_k))
    )
    for frames in frame_chunks(patches, references, queries.shape[1], w_iq.shape[0]):
        x = patches[:, frames]
        slots, used = slots_of(assignment[:, :, frames], references.shape[1])
        bank = map_rows(references, used, of_key)
        cosines = _cosines(x, slots, mapped_queries, bank, for_query, for_key, of_key, eps)
        pool_by_cosines(x, *cosines, alpha, lam, tokens[:, :, frames], weights[:, :, frames])
    return tokens, weights


def map_queries(queries: Tensor, w_q: Tensor, b_q: Tensor) -> MappedRows:
    """Mapped questions: rows `[B, 1, Q, P]`."""
    first = torch.zeros(queries.shape[0], 1, dtype=torch.int64, device=queries.device)
    by = Map.of(w_q, b_q, queries.dtype)
    return map_rows(unit_stride(queries)[:, None], first, by)


def frame_chunks(patches: Tensor, references: Tensor, questions: int, p: int) -> list[slice]:
    """Ranges of frames of which the mapped references need at most `BANK_BYTES`, or one frame."""
    b, n, m, _ = patches.shape
    frame_bytes = max(1, b * m * p * 4)
    step = n
    if min(references.shape[1], questions * n) * frame_bytes > BANK_BYTES:
        step = max(1, BANK_BYTES // (questions * frame_bytes))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def slots_of(assignment: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The rows of a bank that are in use, without looking at them from the host.

    Args:
        assignment: `[B, Q, n]` as the op has it; rows of the bank are 0..rows-1.
    Returns:
        The assignment with numbers of slots for rows, `[B, Q, n]`, and the rows of the slots
        `[B, S]`, -1 for those that are left over; S is as many as can be in use.
    """
    b, q, n = assignment.shape
    flat = assignment.flatten(1)
    if rows == 0:
        return torch.where(assignment == -2, -2, -1), flat[:, :0]
    flat = torch.where(flat < -2, 0, flat.clamp(max=rows - 1))
    everywhere = torch.arange(rows, device=flat.device).expand(b, -1)
    used = flat.new_zeros(b, rows + 1)
    used.scatter_(1, torch.where(flat < 0, rows, flat), 1)
    used = used[:, :rows]
    slot = used.cumsum(1) - 1
    size = min(rows, q * n)
    slots = flat.new_full((b, size + 1), -1)
    slots.scatter_(1, torch.where(used == 1, slot, size), everywhere)
    flat = torch.where(flat < 0, flat, slot.gather(1, flat.clamp(min=0)))
    return flat.view(b, q, n), slots[:, :size].contiguous()


def _cosines(
    x: Tensor,
    slots: Tensor,
    queries: MappedRows,
    bank: MappedRows,
    for_query: Map,
    for_key: Map,
    of_key: Map,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Both cosines `[B, Q, n, M]` fp32 of `x [B, n, M, C]`, with mapped questions
    `[B, 1, Q, P]` and mapped references `[B, S, M, P]`."""
    b, n, m, c = x.shape
    q, p = queries.rows.shape[2:]
    cos_query = torch.empty(b, q, n, m, dtype=torch.float32, device=x.device)
    cos_key = torch.empty_like(cos_query)
    tile = tile_of("cosines", for_query)
    block_q = min(MAX_QUESTIONS, triton.next_power_of_2(max(q, 1)))
    launch(
        projected_cosines_kernel,
        (3 * triton.cdiv(n * m, tile["BLOCK_M"]), b, triton.cdiv(q, block_q)),
        *(x, slots, *queries, *bank),
        *(for_query.parts, for_query.bias, for_key.parts, for_key.bias),
        *(of_key.parts, of_key.bias, cos_query, cos_key),
        *(eps, n, m, q, bank.rows.shape[1], c, p),
        *(queries.squares.shape[2], bank.squares.shape[2], *x.stride()[:3]),
        *(*for_query.parts.stride()[:2], *for_key.parts.stride()[:2], *of_key.parts.stride()[:2]),
        BLOCK_Q=block_q,
        **tile,
    )
    return cos_query, cos_key
