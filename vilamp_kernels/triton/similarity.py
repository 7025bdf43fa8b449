"""Cosine similarity: kernels, then launchers.

Few queries: a tile of frames is in registers, each query is multiplied with it. Many: tiles of a
matrix product. In both the norms are summed from the elements that the products use, so a frame is
read once for all queries of a program.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.numerics import Unit
from ..reference.similarity import grad_of_rows
from .launch import launch
from .products import dot
from .rows import floored_norm, row_tile, thread_sums, unit_stride, vector
from .tuning import config, name_of

CHUNKS = 256
"""Most parts into which the frames of a video are split for the gradient of its queries."""


@triton.jit
def _program(N, Q, FRAMES: tl.constexpr, QUERIES: tl.constexpr):
    """Video, tile of frames and group of queries of this program. Programs of the same frames
    follow each other, so that the later ones find them in the L2 cache."""
    q_tiles = tl.cdiv(Q, QUERIES)
    n_tiles = tl.cdiv(N, FRAMES)
    i_q = (tl.program_id(0) % q_tiles).to(tl.int64)
    i_n = (tl.program_id(0) // q_tiles % n_tiles).to(tl.int64)
    return (tl.program_id(0) // q_tiles // n_tiles).to(tl.int64), i_n, i_q


@triton.jit(do_not_specialize=["N", "Q"])
def similarity_fwd_kernel(
    f_ptr,
    q_ptr,
    out_ptr,
    eps,
    N,
    Q,
    D,
    stride_f_b,
    stride_f_n,
    stride_q_b,
    stride_q_q,
    BLOCK_Q: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
    VEC: tl.constexpr,
):
    """`out [B, Q, N]`: one program, BLOCK_R x BLOCK_W frames and BLOCK_Q queries."""
    i_b, i_tile, i_q = _program(N, Q, BLOCK_R * BLOCK_W, BLOCK_Q)

    o_n = i_tile * (BLOCK_R * BLOCK_W) + (
        tl.arange(0, BLOCK_R)[:, None] * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    )  # [R, W]
    m_n = o_n < N
    o_w = tl.zeros([1, BLOCK_W, 1], tl.int64)  # the query is the same for every row
    o_d = tl.arange(0, BLOCK_D)
    p_f = f_ptr + i_b * stride_f_b + o_n[:, :, None] * stride_f_n + o_d[None, None, :]
    p_q = q_ptr + i_b * stride_q_b + o_w + o_d[None, None, :]
    o_q = i_q * BLOCK_Q + tl.arange(0, 1)[:, None]  # [1, 1]

    b_zero = tl.zeros([BLOCK_R, BLOCK_W, BLOCK_D // VEC], tl.float32)
    b_zero_q = tl.zeros([1, BLOCK_W, BLOCK_D // VEC], tl.float32)
    b_ff = b_zero
    b_fq = ()
    b_qq = ()
    for _ in tl.static_range(BLOCK_Q):
        b_fq = b_fq + (b_zero,)
        b_qq = b_qq + (b_zero_q,)
    for d in range(0, D, BLOCK_D):
        m_d = o_d[None, None, :] < D - d
        b_f = tl.load(p_f + d, mask=m_n[:, :, None] & m_d, other=0.0).to(tl.float32)
        b_ff += thread_sums(b_f * b_f, VEC)
        b_fq_next = ()
        b_qq_next = ()
        for i in tl.static_range(BLOCK_Q):
            p = p_q + tl.minimum(i_q * BLOCK_Q + i, Q - 1) * stride_q_q + d
            b_q = tl.load(p, mask=m_d, other=0.0).to(tl.float32)
            b_fq_next = b_fq_next + (b_fq[i] + thread_sums(b_f * b_q, VEC),)
            b_qq_next = b_qq_next + (b_qq[i] + thread_sums(b_q * b_q, VEC),)
        b_fq = b_fq_next
        b_qq = b_qq_next

    b_f_norm = floored_norm(tl.sum(b_ff, 2), eps)
    for i in tl.static_range(BLOCK_Q):
        b_q_norm = floored_norm(tl.sum(b_qq[i], 2), eps)
        b_cos = tl.div_rn(tl.div_rn(tl.sum(b_fq[i], 2), b_q_norm), b_f_norm)
        p_out = out_ptr + (i_b * Q + o_q + i) * N + o_n
        tl.store(p_out, b_cos, mask=m_n & (o_q + i < Q))


@triton.jit(do_not_specialize=["N", "Q"])
def similarity_dot_fwd_kernel(
    f_ptr,
    q_ptr,
    out_ptr,
    eps,
    N,
    Q,
    D,
    stride_f_b,
    stride_f_n,
    stride_q_b,
    stride_q_q,
    BLOCK_N: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_D: tl.constexpr,
    VEC: tl.constexpr,
):
    """`out [B, Q, N]` of 16-bit frames: one program, BLOCK_N frames x BLOCK_Q queries.

    The tensor cores multiply the numbers as they are: products exact, sums in fp32. Loads go
    through registers (num_stages=1), since the norms are taken from there.
    """
    i_b, i_n, i_q = _program(N, Q, BLOCK_N, BLOCK_Q)

    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_q = i_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
    o_d = tl.arange(0, BLOCK_D)
    m_n = o_n < N
    m_q = o_q < Q
    p_f = f_ptr + i_b * stride_f_b + o_n[:, None] * stride_f_n + o_d[None, :]
    p_q = q_ptr + i_b * stride_q_b + o_q[:, None] * stride_q_q + o_d[None, :]

    b_fq = tl.zeros([BLOCK_N, BLOCK_Q], tl.float32)
    b_ff = tl.zeros([BLOCK_N, BLOCK_D // VEC], tl.float32)
    b_qq = tl.zeros([BLOCK_Q, BLOCK_D // VEC], tl.float32)
    for d in range(0, D, BLOCK_D):
        m_d = o_d[None, :] < D - d
        b_f = tl.load(p_f + d, mask=m_n[:, None] & m_d, other=0.0)  # [BLOCK_N, BLOCK_D]
        b_q = tl.load(p_q + d, mask=m_q[:, None] & m_d, other=0.0)  # [BLOCK_Q, BLOCK_D]
        b_fq = dot(b_f, tl.trans(b_q), b_fq)
        b_ff += _squares(b_f, VEC)
        b_qq += _squares(b_q, VEC)

    b_f_norm = floored_norm(tl.sum(b_ff, 1), eps)
    b_q_norm = floored_norm(tl.sum(b_qq, 1), eps)
    b_cos = tl.div_rn(tl.div_rn(b_fq, b_q_norm[None, :]), b_f_norm[:, None])
    p_out = out_ptr + (i_b * Q + o_q[None, :]) * N + o_n[:, None]
    tl.store(p_out, b_cos, mask=m_n[:, None] & m_q[None, :])


@triton.jit
def _squares(b_x, VEC: tl.constexpr):
    """`[N, D]` -> `[N, D / VEC]`: squares, summed over what one thread holds."""
    b_x = tl.reshape(b_x, [b_x.shape[0], b_x.shape[1] // VEC, VEC]).to(tl.float32)
    return tl.sum(b_x * b_x, 2)


@triton.jit(do_not_specialize=["N", "Q", "stride_g_b", "stride_g_q"])
def similarity_bwd_frames_kernel(
    g_ptr,
    f_ptr,
    q_ptr,
    q_norm_ptr,
    grad_ptr,
    f_norm_ptr,
    eps,
    N,
    Q,
    D,
    stride_g_b,
    stride_g_q,
    stride_f_b,
    stride_f_n,
    stride_q_b,
    stride_q_q,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradient of the frames `[B, N, D]` and their norms `[B, N]`: one program, R x W frames.

    With t the unit queries summed by their gradients, it is `(t - (u . t) u) / |f|` where u is
    `f / |f|`. The first BLOCK_D elements stay in registers, only wider frames are read again.
    """
    n_tiles = tl.cdiv(N, BLOCK_R * BLOCK_W)
    i_b = (tl.program_id(0) // n_tiles).to(tl.int64)
    i_tile = (tl.program_id(0) % n_tiles).to(tl.int64)

    o_n = i_tile * (BLOCK_R * BLOCK_W) + (
        tl.arange(0, BLOCK_R)[:, None] * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]
    )  # [R, W]
    m_n = o_n < N
    o_d = tl.arange(0, BLOCK_D)
    p_f = f_ptr + i_b * stride_f_b + o_n[:, :, None] * stride_f_n + o_d[None, None, :]
    p_g = g_ptr + i_b * stride_g_b + o_n
    o_w = tl.zeros([1, BLOCK_W, 1], tl.int64)  # the query is the same for every row
    p_q = q_ptr + i_b * stride_q_b + o_w + o_d[None, None, :]
    p_q_norm = q_norm_ptr + i_b * Q

    b_f, b_t = _frames_and_pull(p_f, p_g, p_q, p_q_norm, m_n, o_d, D, Q, stride_g_q, stride_q_q)
    b_ff = tl.sum(b_f * b_f, 2)
    b_ft = tl.sum(b_f * b_t, 2)
    for d in range(BLOCK_D, D, BLOCK_D):
        b_f_more, b_t_more = _frames_and_pull(
            p_f + d, p_g, p_q + d, p_q_norm, m_n, o_d, D - d, Q, stride_g_q, stride_q_q
        )
        b_ff += tl.sum(b_f_more * b_f_more, 2)
        b_ft += tl.sum(b_f_more * b_t_more, 2)

    b_norm = floored_norm(b_ff, eps)
    tl.store(f_norm_ptr + i_b * N + o_n, b_norm, mask=m_n)
    # A norm on its floor is a constant.
    b_along = tl.where(b_norm > eps, tl.div_rn(tl.div_rn(b_ft, b_norm), b_norm), 0.0)[:, :, None]
    b_inverse = tl.div_rn(1.0, b_norm)[:, :, None]

    p_grad = grad_ptr + (i_b * N + o_n[:, :, None]) * D + o_d[None, None, :]
    b_grad = (b_t - b_along * b_f) * b_inverse
    tl.store(p_grad, b_grad, mask=m_n[:, :, None] & (o_d[None, None, :] < D))
    for d in range(BLOCK_D, D, BLOCK_D):
        b_f_more, b_t_more = _frames_and_pull(
            p_f + d, p_g, p_q + d, p_q_norm, m_n, o_d, D - d, Q, stride_g_q, stride_q_q
        )
        b_grad = (b_t_more - b_along * b_f_more) * b_inverse
        tl.store(p_grad + d, b_grad, mask=m_n[:, :, None] & (o_d[None, None, :] < D - d))


@triton.jit
def _frames_and_pull(p_f, p_g, p_q, p_q_norm, m_n, o_d, D, Q, stride_g_q, stride_q_q):
    """Tiles `[R, W, D]`: the frames, and the unit queries summed by their gradients."""
    m_d = o_d[None, None, :] < D
    b_f = tl.load(p_f, mask=m_n[:, :, None] & m_d, other=0.0).to(tl.float32)
    b_t = tl.zeros_like(b_f)
    for _ in range(0, Q):
        b_g = tl.div_rn(tl.load(p_g, mask=m_n, other=0.0), tl.load(p_q_norm))
        b_t += b_g[:, :, None] * tl.load(p_q, mask=m_d, other=0.0).to(tl.float32)
        p_g += stride_g_q
        p_q += stride_q_q
        p_q_norm += 1
    return b_f, b_t


@triton.jit(do_not_specialize=["N", "Q", "chunk", "stride_g_b", "stride_g_q"])
def similarity_bwd_queries_kernel(
    g_ptr,
    f_ptr,
    f_norm_ptr,
    part_ptr,
    N,
    Q,
    D,
    chunk,
    stride_g_b,
    stride_g_q,
    stride_f_b,
    stride_f_n,
    BLOCK_Q: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Unit frames summed by the gradients of BLOCK_Q queries, over `chunk` frames and BLOCK_D
    elements: one part of `part [B, chunks, Q, D]`. No atomics: the sum has one order."""
    d_tiles = tl.cdiv(D, BLOCK_D)
    q_tiles = tl.cdiv(Q, BLOCK_Q)
    chunks = tl.cdiv(N, chunk)
    pid = tl.program_id(0)
    i_d = pid % d_tiles
    i_q = (pid // d_tiles % q_tiles).to(tl.int64) * BLOCK_Q
    i_chunk = (pid // d_tiles // q_tiles % chunks).to(tl.int64)
    i_b = (pid // d_tiles // q_tiles // chunks).to(tl.int64)

    o_row = tl.arange(0, BLOCK_R)[:, None] * BLOCK_W + tl.arange(0, BLOCK_W)[None, :]  # [R, W]
    o_d = i_d * BLOCK_D + tl.arange(0, BLOCK_D)
    m_d = o_d < D
    first = i_chunk * chunk
    last = tl.minimum(first + chunk, N)

    b_sums = ()
    for _ in tl.static_range(BLOCK_Q):
        b_sums = b_sums + (tl.zeros([BLOCK_W, BLOCK_D], tl.float32),)
    for start in range(first, last, BLOCK_R * BLOCK_W):
        o_n = start + o_row
        m_n = o_n < last
        p_f = f_ptr + i_b * stride_f_b + o_n[:, :, None] * stride_f_n + o_d[None, None, :]
        b_f = tl.load(p_f, mask=m_n[:, :, None] & m_d[None, None, :], other=0.0).to(tl.float32)
        b_norm = tl.load(f_norm_ptr + i_b * N + o_n, mask=m_n, other=1.0)
        b_next = ()
        for i in tl.static_range(BLOCK_Q):
            p_g = g_ptr + i_b * stride_g_b + tl.minimum(i_q + i, Q - 1) * stride_g_q + o_n
            b_g = tl.div_rn(tl.load(p_g, mask=m_n, other=0.0), b_norm)
            b_next = b_next + (b_sums[i] + tl.sum(b_g[:, :, None] * b_f, 0),)
        b_sums = b_next
    for i in tl.static_range(BLOCK_Q):
        p_part = part_ptr + ((i_b * chunks + i_chunk) * Q + i_q + i) * D + o_d
        tl.store(p_part, tl.sum(b_sums[i], 0), mask=m_d & (o_d * 0 + i_q + i < Q))


def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, N, D]` and `[B, Q, D]` -> `[B, Q, N]` fp32."""
    frames, queries = unit_stride(frames), unit_stride(queries)
    b, n, d = frames.shape
    q = queries.shape[1]
    out = torch.empty(b, q, n, dtype=torch.float32, device=frames.device)
    if out.numel() == 0:
        return out
    args = (frames, queries, out, eps, n, q, d, *frames.stride()[:2], *queries.stride()[:2])
    vec = vector(frames, queries)
    tile = config("similarity", dtype=name_of(frames.dtype), q=q, vec=vec) | {"VEC": vec}
    if "BLOCK_R" in tile:
        tile |= row_tile(vec, d, tile["num_warps"])
        tile["BLOCK_Q"] = min(tile["BLOCK_Q"], triton.next_power_of_2(q))
        kernel, n_tile = similarity_fwd_kernel, tile["BLOCK_R"] * tile["BLOCK_W"]
    else:
        kernel, n_tile = similarity_dot_fwd_kernel, tile["BLOCK_N"]
    grid = b * triton.cdiv(n, n_tile) * triton.cdiv(q, tile["BLOCK_Q"])
    launch(kernel, (grid,), *args, **tile)
    return out


def similarity_backward(
    grad: Tensor, frames: Tensor, queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`grad [B, Q, N]` -> gradients of frames and queries, in their dtypes."""
    grad = unit_stride(grad.to(torch.float32))
    frames, queries = unit_stride(frames), unit_stride(queries)
    b, n, d = frames.shape
    q = queries.shape[1]
    grad_frames = torch.empty(b, n, d, dtype=frames.dtype, device=frames.device)
    frame_norms = torch.empty(b, n, dtype=torch.float32, device=frames.device)
    unit = Unit.of(queries.to(torch.float32), eps)

    dtype, vec = name_of(frames.dtype), vector(frames, queries)
    tile = config("similarity_backward", dtype=dtype, vec=vec, of="frames")
    tile |= row_tile(vec, d, tile["num_warps"], loads=tile.pop("LOADS"))
    launch(
        similarity_bwd_frames_kernel,
        (b * triton.cdiv(n, tile["BLOCK_R"] * tile["BLOCK_W"]) if d else 0,),
        *(grad, frames, queries, unit.norm, grad_frames, frame_norms, eps, n, q, d),
        *(*grad.stride()[:2], *frames.stride()[:2], *queries.stride()[:2]),
        **tile,
    )

    tile = config("similarity_backward", dtype=dtype, vec=vec, of="queries")
    tile |= row_tile(vector(frames), d, tile["num_warps"])
    block_q = min(tile.pop("BLOCK_Q"), triton.next_power_of_2(max(q, 1)))
    rows = tile["BLOCK_R"] * tile["BLOCK_W"]
    chunk = rows * triton.cdiv(triton.cdiv(max(n, 1), rows), CHUNKS)
    chunks = triton.cdiv(n, chunk)
    parts = torch.empty(b, chunks, q, d, dtype=torch.float32, device=frames.device)
    launch(
        similarity_bwd_queries_kernel,
        (b * chunks * triton.cdiv(q, block_q) * triton.cdiv(d, tile["BLOCK_D"]),),
        *(grad, frames, frame_norms, parts, n, q, d, chunk),
        *(*grad.stride()[:2], *frames.stride()[:2]),
        BLOCK_Q=block_q,
        **tile,
    )
    towards = parts.sum(1)
    along = (towards * unit.rows).sum(-1)
    grad_queries = grad_of_rows(unit, towards, along, eps).to(queries.dtype)
    return grad_frames, grad_queries
