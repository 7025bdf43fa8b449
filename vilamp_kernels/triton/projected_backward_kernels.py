"""The kernels of the gradients of `projected_differential_pool` that are no matrix products;
`projected_backward.py` launches them, for a chunk of frames of one video.

Mapped rows are fp32 and contiguous: `for_query` and `for_key [N, M, P]` of the patches, `query
[Q, P]`, `bank [S, M, P]` of the reference frames in use, and `self [N, M, P]` of the frames that
are their own reference. `slots [Q, N]` says which of these a frame is compared with: a row of the
bank, -1 for none, -2 for itself. Other rows of `bank` and `self` hold anything and are not read.
"""

import triton
import triton.language as tl

from .halves import load_fp32


@triton.jit(do_not_specialize=["N", "M", "blocks"])
def projected_bwd_dots_kernel(
    x_ptr,
    grad_ptr,
    for_query_ptr,
    for_key_ptr,
    query_ptr,
    query_norm_ptr,
    bank_ptr,
    self_ptr,
    slots_ptr,
    eps,
    norm_query_ptr,
    norm_key_ptr,
    cos_query_ptr,
    cos_key_ptr,
    key_norm_ptr,
    grad_dot_ptr,
    N,
    M,
    blocks,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_grad_half: tl.int64,
    stride_grad_q: tl.int64,
    stride_grad_n: tl.int64,
    C: tl.constexpr,
    P: tl.constexpr,
    HALVES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """BLOCK_M patches of one frame for one question. Writes `[N, M]` norms of the rows of both
    maps, and `[Q, N, M]` of each: both cosines, norms of the keys, products of the patches with
    the token's gradient."""
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_block = i_program // blocks, i_program % blocks
    # Tiles of one: a scalar condition would be a branch around each load.
    i_q = tl.program_id(1) + tl.zeros([1, 1], tl.int64)
    eps = tl.full([], eps, tl.float32)
    o_m = i_block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    m_m = o_m < M
    slot = tl.load(slots_ptr + i_q * N + i_n)

    o_p = tl.arange(0, BLOCK_P)[None, :]
    o_row = (i_n * M + o_m) * P + o_p
    p_bank = bank_ptr + (tl.maximum(slot, 0) * M + o_m) * P + o_p
    p_key = tl.where(slot == -2, self_ptr + o_row, p_bank)
    p_t = query_ptr + i_q * P + o_m * 0 + o_p
    uu = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    ut = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    vv = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    vk = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    kk = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    for p in range(0, P, BLOCK_P):
        m_p = m_m & (p + o_p < P)
        b_u = tl.load(for_query_ptr + o_row + p, mask=m_p, other=0.0)
        b_v = tl.load(for_key_ptr + o_row + p, mask=m_p, other=0.0)
        b_t = tl.load(p_t + p, mask=m_p, other=0.0)
        b_k = tl.load(p_key + p, mask=m_p & (slot != -1), other=0.0)
        uu += b_u * b_u
        ut += b_u * b_t
        vv += b_v * b_v
        vk += b_v * b_k
        kk += b_k * b_k

    o_c = tl.arange(0, BLOCK_C)[None, :]
    p_x = x_ptr + i_n * stride_x_n + o_m * stride_x_m + o_c
    p_grad = grad_ptr + i_q * stride_grad_q + i_n * stride_grad_n + o_m * 0 + o_c
    xg = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
    for c in range(0, C, BLOCK_C):
        m_c = m_m & (c + o_c < C)
        b_x = tl.load(p_x + c, mask=m_c, other=0.0).to(tl.float32)
        xg += b_x * load_fp32(p_grad + c, stride_grad_half, m_c, HALVES)

    norm_query = tl.maximum(tl.sqrt_rn(tl.sum(uu, 1, keep_dims=True)), eps)
    norm_key = tl.maximum(tl.sqrt_rn(tl.sum(vv, 1, keep_dims=True)), eps)
    key_norm = tl.maximum(tl.sqrt_rn(tl.sum(kk, 1, keep_dims=True)), eps)
    query_norm = tl.load(query_norm_ptr + i_q)
    cos_query = tl.div_rn(tl.sum(ut, 1, keep_dims=True), norm_query * query_norm)
    cos_key = tl.div_rn(tl.sum(vk, 1, keep_dims=True), norm_key * key_norm)
    o_norm = i_n * M + o_m
    m_first = m_m & (i_q == 0)
    tl.store(norm_query_ptr + o_norm, norm_query, mask=m_first)
    tl.store(norm_key_ptr + o_norm, norm_key, mask=m_first)
    o_out = i_q * N * M + o_norm
    tl.store(cos_query_ptr + o_out, cos_query, mask=m_m)
    tl.store(cos_key_ptr + o_out, cos_key, mask=m_m)
    tl.store(key_norm_ptr + o_out, key_norm, mask=m_m)
    tl.store(grad_dot_ptr + o_out, tl.sum(xg, 1, keep_dims=True), mask=m_m)


@triton.jit(do_not_specialize=["N", "M", "Q", "blocks"])
def projected_bwd_rows_kernel(
    for_query_ptr,
    for_key_ptr,
    query_ptr,
    bank_ptr,
    self_ptr,
    slots_ptr,
    by_query_ptr,
    by_key_ptr,
    own_query_ptr,
    own_key_ptr,
    of_key_ptr,
    grad_query_ptr,
    grad_key_ptr,
    grad_self_ptr,
    N,
    M,
    Q,
    blocks,
    P: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """One tile of the gradients `[N, M, P]` of `for_query`, `for_key` and `self`."""
    CHUNKS: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_block = i_program // CHUNKS // blocks, i_program // CHUNKS % blocks
    o_p = (i_program % CHUNKS) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    o_m = i_block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    m_m = o_m < M
    m_p = m_m & (o_p < P)
    o_row = (i_n * M + o_m) * P + o_p
    b_u = tl.load(for_query_ptr + o_row, mask=m_p, other=0.0)
    b_v = tl.load(for_key_ptr + o_row, mask=m_p, other=0.0)
    grad_u = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    grad_v = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    grad_s = tl.full([BLOCK_M, BLOCK_P], 0.0, tl.float32)
    for q in range(Q):
        slot = tl.load(slots_ptr + q * N + i_n + tl.zeros([1, 1], tl.int64))
        itself = slot == -2
        p_bank = bank_ptr + (tl.maximum(slot, 0) * M + o_m) * P + o_p
        p_key = tl.where(itself, self_ptr + o_row, p_bank)
        b_k = tl.load(p_key, mask=m_p & (slot != -1), other=0.0)
        b_t = tl.load(query_ptr + q * P + o_m * 0 + o_p, mask=m_p, other=0.0)
        o_out = (tl.cast(q, tl.int64) * N + i_n) * M + o_m
        by_query = tl.load(by_query_ptr + o_out, mask=m_m, other=0.0)
        by_key = tl.load(by_key_ptr + o_out, mask=m_m, other=0.0)
        own_query = tl.load(own_query_ptr + o_out, mask=m_m, other=0.0)
        own_key = tl.load(own_key_ptr + o_out, mask=m_m, other=0.0)
        of_key = tl.load(of_key_ptr + o_out, mask=m_m, other=0.0)
        grad_u += by_query * b_t + own_query * b_u
        grad_v += by_key * b_k + own_key * b_v
        grad_s += tl.where(itself, by_key * b_v + of_key * b_k, 0.0)
    tl.store(grad_query_ptr + o_row, grad_u, mask=m_p)
    tl.store(grad_key_ptr + o_row, grad_v, mask=m_p)
    tl.store(grad_self_ptr + o_row, grad_s, mask=m_p)


@triton.jit(do_not_specialize=["N", "M", "Q", "blocks"])
def projected_bwd_patches_kernel(
    weight_ptr,
    grad_ptr,
    from_query_ptr,
    from_key_ptr,
    from_self_ptr,
    itself_ptr,
    grad_x_ptr,
    N,
    M,
    Q,
    blocks,
    stride_grad_q: tl.int64,
    stride_grad_n: tl.int64,
    C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One tile of the gradient `[N, M, C]` of the patches: the tokens' gradients by the weights,
    and what came back through each map, fp32 `[N, M, C]`; through that of `self` only where
    `itself [N]` is not -1."""
    CHUNKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_block = i_program // CHUNKS // blocks, i_program // CHUNKS % blocks
    o_c = (i_program % CHUNKS) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    o_m = i_block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    m_m = o_m < M
    m_c = m_m & (o_c < C)
    o_row = (i_n * M + o_m) * C + o_c
    itself = tl.load(itself_ptr + i_n + tl.zeros([1, 1], tl.int64))
    acc = tl.load(from_query_ptr + o_row, mask=m_c, other=0.0)
    acc += tl.load(from_key_ptr + o_row, mask=m_c, other=0.0)
    acc += tl.load(from_self_ptr + o_row, mask=m_c & (itself >= 0), other=0.0)
    for q in range(Q):
        o_out = (tl.cast(q, tl.int64) * N + i_n) * M + o_m
        weight = tl.load(weight_ptr + o_out, mask=m_m, other=0.0)
        p_grad = grad_ptr + q * stride_grad_q + i_n * stride_grad_n + o_m * 0 + o_c
        acc += weight * tl.load(p_grad, mask=m_c, other=0.0)
    tl.store(grad_x_ptr + o_row, acc.to(grad_x_ptr.dtype.element_ty), mask=m_c)
