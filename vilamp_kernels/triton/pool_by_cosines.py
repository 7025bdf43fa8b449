"""The last step of projected pooling: weights of the two cosines, and the sum of the patches."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .rows import VECTOR_BYTES

MAX_QUESTIONS = 4
"""Questions that share one read of the patches."""


@triton.jit(
    do_not_specialize=["N", "M", "Q", "stride_weights_b", "stride_weights_q", "stride_weights_n"],
    do_not_specialize_on_alignment=["weights_ptr"],
)
def pool_by_cosines_kernel(
    x_ptr,
    cos_query_ptr,
    cos_key_ptr,
    alpha_ptr,
    lam_ptr,
    tokens_ptr,
    weights_ptr,
    N,
    M,
    Q,
    C,
    stride_x_b: tl.int64,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_tokens_b: tl.int64,
    stride_tokens_q: tl.int64,
    stride_tokens_n: tl.int64,
    stride_weights_b: tl.int64,
    stride_weights_q: tl.int64,
    stride_weights_n: tl.int64,
    RETURN_WEIGHTS: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """Tokens `[B, Q, N, C]` and weights `[B, Q, N, M]` of cosines `[B, Q, N, M]`: one program,
    BLOCK_C columns of one frame for BLOCK_Q questions. Patches are read once for these. Questions
    past the last are the last one again."""
    c_tiles = tl.cdiv(C, BLOCK_C)
    i_c = tl.program_id(0) % c_tiles
    i_n = (tl.program_id(0) // c_tiles).to(tl.int64)
    i_b = tl.program_id(1).to(tl.int64)
    i_q = tl.program_id(2) * BLOCK_Q
    alpha = tl.load(alpha_ptr).to(tl.float32)
    lam = tl.load(lam_ptr).to(tl.float32)

    # Sums of the softmax first: every program of a frame needs them, and cosines are few.
    o_s = tl.arange(0, BLOCK_S)
    b_max = ()
    b_sum = ()
    for q in tl.static_range(BLOCK_Q):
        cos = ((i_b * Q + tl.minimum(i_q + q, Q - 1)) * N + i_n) * M
        b_running = tl.full([BLOCK_S], float("-inf"), tl.float32)
        for m in range(0, M, BLOCK_S):
            b_logits = _logits(cos_query_ptr + cos, cos_key_ptr + cos, m + o_s, M, alpha, lam)
            b_running = tl.maximum(b_running, b_logits)
        largest = tl.max(b_running, 0)
        b_exp = tl.zeros([BLOCK_S], tl.float32)
        for m in range(0, M, BLOCK_S):
            b_logits = _logits(cos_query_ptr + cos, cos_key_ptr + cos, m + o_s, M, alpha, lam)
            b_exp += tl.where(m + o_s < M, tl.exp(b_logits - largest), 0.0)
        b_max = b_max + (largest,)
        b_sum = b_sum + (tl.sum(b_exp, 0),)

    o_m = tl.arange(0, BLOCK_M)
    o_c = i_c * BLOCK_C + tl.arange(0, BLOCK_C)
    m_c = o_c < C
    p_x = x_ptr + i_b * stride_x_b + i_n * stride_x_n
    p_x = p_x + o_m[:, None].to(tl.int64) * stride_x_m + o_c[None, :]
    b_tokens = ()
    for _ in tl.static_range(BLOCK_Q):
        b_tokens = b_tokens + (tl.zeros([BLOCK_C], tl.float32),)
    for m in range(0, M, BLOCK_M):
        m_m = m + o_m < M
        b_x = tl.load(p_x, mask=m_m[:, None] & m_c[None, :], other=0.0).to(tl.float32)
        b_next = ()
        for q in tl.static_range(BLOCK_Q):
            i_bq = i_b * Q + tl.minimum(i_q + q, Q - 1)
            cos = (i_bq * N + i_n) * M
            b_logits = _logits(cos_query_ptr + cos, cos_key_ptr + cos, m + o_m, M, alpha, lam)
            b_w = tl.where(m_m, tl.exp(b_logits - b_max[q]) / b_sum[q], 0.0)
            b_next = b_next + (b_tokens[q] + tl.sum(b_w[:, None] * b_x, 0),)
            if RETURN_WEIGHTS and i_c == 0:  # the same in every program of the frame
                p_w = weights_ptr + i_b * stride_weights_b + i_n * stride_weights_n
                p_w += tl.minimum(i_q + q, Q - 1) * stride_weights_q + m + o_m
                tl.store(p_w, b_w, mask=m_m)
        b_tokens = b_next
        p_x += BLOCK_M * stride_x_m
    for q in tl.static_range(BLOCK_Q):
        p_tokens = tokens_ptr + i_b * stride_tokens_b + i_n * stride_tokens_n + o_c
        p_tokens += tl.minimum(i_q + q, Q - 1) * stride_tokens_q
        tl.store(p_tokens, b_tokens[q], mask=m_c)


@triton.jit
def _logits(p_cos_query, p_cos_key, o_m, M, alpha, lam):
    m_m = o_m < M
    b_cos_query = tl.load(p_cos_query + o_m, mask=m_m, other=0.0)
    b_cos_key = tl.load(p_cos_key + o_m, mask=m_m, other=0.0)
    b_logits = tl.div_rn(b_cos_query - lam * b_cos_key, tl.zeros_like(b_cos_query) + alpha)
    return tl.where(m_m, b_logits, float("-inf"))


def pool_by_cosines(
    x: Tensor,
    cos_query: Tensor,
    cos_key: Tensor,
    alpha: Tensor,
    lam: Tensor,
    tokens: Tensor,
    weights: Tensor,
) -> None:
    """Tokens `[B, Q, n, C]` and, where there is room, weights `[B, Q, n, M]` of `x`."""
    b, n, m, c = x.shape
    q = cos_query.shape[1]
    block_q = min(MAX_QUESTIONS, triton.next_power_of_2(q))
    block_c = min(512, max(16, triton.next_power_of_2(c)))
    launch(
        pool_by_cosines_kernel,
        (n * max(1, triton.cdiv(c, block_c)), b, triton.cdiv(q, block_q)),
        *(x, cos_query, cos_key, alpha, lam, tokens, weights, n, m, q, c, *x.stride()[:3]),
        *(*tokens.stride()[:3], *weights.stride()[:3]),
        RETURN_WEIGHTS=weights.numel() > 0,
        BLOCK_Q=block_q,
        BLOCK_M=16 // block_q,
        BLOCK_C=block_c,
        BLOCK_S=256,
        # One load of 16 bytes per thread and row: sums over rows stay within a thread.
        num_warps=max(1, block_c // (VECTOR_BYTES // x.dtype.itemsize) // 32),
    )
