"""Gradients of `differential_pool`: the forward is computed again, nothing was kept.

1. dots: cosines, norms and the products of patches with the tokens' gradients, one read of the
   patches for every two questions. Kept: five numbers for each patch and question.
2. softmax: from these, what multiplies each vector in the gradients.
3. patches: the gradient of the patches, and sums over patches for the questions, one read.
4. bank: the gradient of each reference frame, a sum over the frames that were compared with it.

Each output is summed by one program in one order, so the results are the same every time.
"""

# Triton compiles `tiles + (tile,)`, but not `(*tiles, tile)`.

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .launch import launch
from .pooling import ASSIGNMENT_STRIDES, query_norms, reference_row, rows_of, zeros
from .pooling_tiles import (
    BACKWARD_WARPS,
    MOST_QUESTIONS,
    MOST_QUESTIONS_OF_DOTS,
    backward_tile,
    row_splits,
)


@triton.jit(do_not_specialize=["N", "M", "Q", "R", "pieces", "rows", *ASSIGNMENT_STRIDES])
def differential_pool_bwd_dots_kernel(
    grad_ptr,
    x_ptr,
    q_ptr,
    q_norm_ptr,
    bank_ptr,
    assignment_ptr,
    eps,
    norm_ptr,
    cos_query_ptr,
    cos_key_ptr,
    key_norm_ptr,
    grad_dot_ptr,
    N,
    M,
    Q,
    R,
    pieces,
    rows,
    stride_grad_b: tl.int64,
    stride_grad_q: tl.int64,
    stride_grad_n: tl.int64,
    stride_x_b: tl.int64,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_q_b: tl.int64,
    stride_q_q: tl.int64,
    stride_bank_b: tl.int64,
    stride_bank_r: tl.int64,
    stride_bank_m: tl.int64,
    stride_a_b: tl.int64,
    stride_a_q: tl.int64,
    stride_a_n: tl.int64,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """`rows` patches of one frame for GROUP questions. Writes the norms `[B, N, M]`, and
    `[B, Q, N, M]` of each: both cosines, norms of the keys, products with the tokens' gradients."""
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_piece = i_program // pieces, i_program % pieces
    # Tiles of one, as in the forward.
    i_q = tl.program_id(1) * GROUP + tl.zeros([1, 1], tl.int64)
    i_b = tl.program_id(2).to(tl.int64)
    eps = tl.full([], eps, tl.float32)

    o_c = tl.arange(0, BLOCK_C)[None, :]
    o_m = tl.arange(0, BLOCK_M)[:, None].to(tl.int64)
    p_x = x_ptr + i_b * stride_x_b + i_n * stride_x_n + o_m * stride_x_m + o_c
    p_bank = bank_ptr + i_b * stride_bank_b + o_m * stride_bank_m + o_c
    p_q = q_ptr + i_b * stride_q_b + o_m * 0 + o_c
    p_grad = grad_ptr + i_b * stride_grad_b + i_n * stride_grad_n + o_m * 0 + o_c
    question, grad, row, q_norm = (), (), (), ()
    for g in tl.static_range(GROUP):
        # The last group may have too few: it repeats the last one, and does not store it.
        i_g = tl.minimum(i_q + g, Q - 1)
        p_row = assignment_ptr + i_b * stride_a_b + i_g * stride_a_q + i_n * stride_a_n
        question = question + (i_g * stride_q_q,)
        grad = grad + (i_g * stride_grad_q,)
        row = row + (reference_row(p_row, R),)
        q_norm = q_norm + (tl.load(q_norm_ptr + i_b * Q + i_g),)

    first = i_piece * rows
    last = tl.minimum(first + rows, M)
    for m in range(first, last, BLOCK_M):
        m_m = m + o_m < last
        square = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
        dots = zeros(4 * GROUP, BLOCK_M, BLOCK_C)
        # Two chunks at once: more loads on their way.
        for c in tl.range(0, C, BLOCK_C, loop_unroll_factor=2):
            m_c = m_m & (c + o_c < C)
            b_x = tl.load(p_x + m * stride_x_m + c, mask=m_c, other=0.0).to(tl.float32)
            square += b_x * b_x
            added = ()
            for g in tl.static_range(GROUP):
                b_q = tl.load(p_q + question[g] + c, mask=m_c, other=0.0)
                p_key = p_bank + row[g] * stride_bank_r + m * stride_bank_m + c
                b_key = tl.load(p_key, mask=m_c & (row[g] >= 0), other=0.0).to(tl.float32)
                b_grad = tl.load(p_grad + grad[g] + c, mask=m_c, other=0.0)
                added = added + (
                    dots[4 * g] + b_x * b_q.to(tl.float32),
                    dots[4 * g + 1] + b_x * b_key,
                    dots[4 * g + 2] + b_key * b_key,
                    dots[4 * g + 3] + b_x * b_grad.to(tl.float32),
                )
            dots = added

        square = tl.sum(square, 1, keep_dims=True)
        norm = tl.maximum(tl.sqrt_rn(square), eps)
        m_first = m_m & (i_q == 0)
        tl.store(norm_ptr + (i_b * N + i_n) * M + m + o_m, norm, mask=m_first)
        for g in tl.static_range(GROUP):
            dot = tl.sum(dots[4 * g + 1], 1, keep_dims=True)
            key_square = tl.sum(dots[4 * g + 2], 1, keep_dims=True)
            dot = tl.where(row[g] == -2, square, dot)
            key_square = tl.where(row[g] == -2, square, key_square)
            key_norm = tl.maximum(tl.sqrt_rn(key_square), eps)
            cos_query = tl.div_rn(tl.sum(dots[4 * g], 1, keep_dims=True), norm * q_norm[g])
            cos_key = tl.where(row[g] == -1, 0.0, tl.div_rn(dot, norm * key_norm))
            m_out = m_m & (i_q + g < Q)
            o_out = ((i_b * Q + i_q + g) * N + i_n) * M + m + o_m
            tl.store(cos_query_ptr + o_out, cos_query, mask=m_out)
            tl.store(cos_key_ptr + o_out, cos_key, mask=m_out)
            tl.store(key_norm_ptr + o_out, key_norm, mask=m_out)
            grad_dot = tl.sum(dots[4 * g + 3], 1, keep_dims=True)
            tl.store(grad_dot_ptr + o_out, grad_dot, mask=m_out)


@triton.jit(
    do_not_specialize=[
        *("N", "M", "Q", "R", "stride_gw_b", "stride_gw_q", "stride_gw_n"),
        *ASSIGNMENT_STRIDES,
    ]
)
def differential_pool_bwd_softmax_kernel(
    grad_weights_ptr,
    q_norm_ptr,
    assignment_ptr,
    alpha_ptr,
    lam_ptr,
    eps,
    norm_ptr,
    cos_query_ptr,
    cos_key_ptr,
    key_norm_ptr,
    grad_dot_ptr,
    weight_ptr,
    part_ptr,
    N,
    M,
    Q,
    R,
    stride_gw_b: tl.int64,
    stride_gw_q: tl.int64,
    stride_gw_n: tl.int64,
    stride_gw_m: tl.int64,
    stride_a_b: tl.int64,
    stride_a_q: tl.int64,
    stride_a_n: tl.int64,
    HAS_GRAD_WEIGHTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One frame and question. Writes the weights, and what multiplies each vector in place of
    what it read: the question (cos_query), the key in the patch's gradient and the patch in the
    key's (cos_key), the key itself (key_norm), the patch itself (grad_dot). Of part
    `[B, Q, N, 3]`: shares in the gradients of alpha and lam, and the sum for the question's norm.
    """
    i_n = tl.program_id(0).to(tl.int64)
    i_q = tl.program_id(1).to(tl.int64)
    i_b = tl.program_id(2).to(tl.int64)
    eps = tl.full([], eps, tl.float32)
    alpha = tl.load(alpha_ptr).to(tl.float32)
    lam = tl.load(lam_ptr).to(tl.float32)
    q_norm = tl.load(q_norm_ptr + i_b * Q + i_q)
    p_row = assignment_ptr + i_b * stride_a_b + i_q * stride_a_q + i_n * stride_a_n
    row = reference_row(p_row, R)
    i_row = ((i_b * Q + i_q) * N + i_n) * M
    p_grad_weights = grad_weights_ptr + i_b * stride_gw_b + i_q * stride_gw_q + i_n * stride_gw_n
    o_block = tl.arange(0, BLOCK)

    best = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    mean = tl.zeros([BLOCK], tl.float32)
    mean_logit = tl.zeros([BLOCK], tl.float32)
    mean_key = tl.zeros([BLOCK], tl.float32)
    for m in range(0, M, BLOCK):
        o_m = m + o_block
        m_m = o_m < M
        cos_query = tl.load(cos_query_ptr + i_row + o_m, mask=m_m, other=0.0)
        cos_key = tl.load(cos_key_ptr + i_row + o_m, mask=m_m, other=0.0)
        grad = tl.load(grad_dot_ptr + i_row + o_m, mask=m_m, other=0.0)
        if HAS_GRAD_WEIGHTS:
            grad += tl.load(p_grad_weights + o_m * stride_gw_m, mask=m_m, other=0.0)
        logit = tl.div_rn(cos_query - lam * cos_key, alpha)
        top = tl.where(m_m, tl.maximum(best, logit), best)
        keep = tl.where(top == best, 1.0, tl.exp(best - top))
        weight = tl.where(m_m & (logit != float("-inf")), tl.exp(logit - top), 0.0)
        total = total * keep + weight
        mean = mean * keep + weight * grad
        mean_logit = mean_logit * keep + weight * logit
        mean_key = mean_key * keep + weight * cos_key
        best = top
    top = tl.max(best, 0)
    scale = tl.where(best == float("-inf"), 0.0, tl.exp(best - top))
    total = tl.sum(total * scale, 0)
    mean = tl.sum(mean * scale, 0) / total
    mean_logit = tl.sum(mean_logit * scale, 0) / total
    mean_key = tl.sum(mean_key * scale, 0) / total

    grad_alpha = tl.zeros([BLOCK], tl.float32)
    grad_lam = tl.zeros([BLOCK], tl.float32)
    grad_norm = tl.zeros([BLOCK], tl.float32)
    for m in range(0, M, BLOCK):
        o_m = m + o_block
        m_m = o_m < M
        norm = tl.load(norm_ptr + (i_b * N + i_n) * M + o_m, mask=m_m, other=1.0)
        cos_query = tl.load(cos_query_ptr + i_row + o_m, mask=m_m, other=0.0)
        cos_key = tl.load(cos_key_ptr + i_row + o_m, mask=m_m, other=0.0)
        key_norm = tl.load(key_norm_ptr + i_row + o_m, mask=m_m, other=1.0)
        grad = tl.load(grad_dot_ptr + i_row + o_m, mask=m_m, other=0.0)
        if HAS_GRAD_WEIGHTS:
            grad += tl.load(p_grad_weights + o_m * stride_gw_m, mask=m_m, other=0.0)
        logit = tl.div_rn(cos_query - lam * cos_key, alpha)
        weight = tl.where(m_m, tl.exp(logit - top) / total, 0.0)
        grad = weight * (grad - mean)
        grad_query = grad / alpha
        grad_key = tl.where(row == -1, 0.0, -lam * grad_query)

        # The gradient of a norm on its floor is 0.
        own = -(grad_query * cos_query + grad_key * cos_key) / norm / norm
        own = tl.where(norm > eps, own, 0.0)
        from_key = grad_key / norm / key_norm
        of_key = tl.where(key_norm > eps, -grad_key * cos_key / key_norm / key_norm, 0.0)
        # Where the key is the patch itself, both gradients are its own.
        own += tl.where(row == -2, 2 * from_key + of_key, 0.0)
        from_key = tl.where(row == -2, 0.0, from_key)

        tl.store(weight_ptr + i_row + o_m, weight, mask=m_m)
        tl.store(cos_query_ptr + i_row + o_m, grad_query / norm / q_norm, mask=m_m)
        tl.store(cos_key_ptr + i_row + o_m, from_key, mask=m_m)
        tl.store(key_norm_ptr + i_row + o_m, of_key, mask=m_m)
        tl.store(grad_dot_ptr + i_row + o_m, own, mask=m_m)
        # The gradients of the logits sum to 0 up to rounding, which the means keep from counting.
        grad_alpha -= tl.where(m_m, grad_query * (logit - mean_logit), 0.0)
        grad_lam -= tl.where(m_m, grad_query * (cos_key - mean_key), 0.0)
        grad_norm += tl.where(m_m, grad_query * cos_query, 0.0)
    p_part = part_ptr + ((i_b * Q + i_q) * N + i_n) * 3
    tl.store(p_part, tl.sum(grad_alpha, 0))
    tl.store(p_part + 1, tl.sum(grad_lam, 0))
    tl.store(p_part + 2, tl.sum(grad_norm, 0))


@triton.jit(do_not_specialize=["N", "M", "Q", "R", "splits", "rows", *ASSIGNMENT_STRIDES])
def differential_pool_bwd_patches_kernel(
    grad_ptr,
    x_ptr,
    q_ptr,
    bank_ptr,
    assignment_ptr,
    weight_ptr,
    query_ptr,
    key_ptr,
    own_ptr,
    grad_x_ptr,
    sums_ptr,
    N,
    M,
    Q,
    R,
    splits,
    rows,
    stride_grad_b: tl.int64,
    stride_grad_q: tl.int64,
    stride_grad_n: tl.int64,
    stride_x_b: tl.int64,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_q_b: tl.int64,
    stride_q_q: tl.int64,
    stride_bank_b: tl.int64,
    stride_bank_r: tl.int64,
    stride_bank_m: tl.int64,
    stride_a_b: tl.int64,
    stride_a_q: tl.int64,
    stride_a_n: tl.int64,
    C: tl.constexpr,
    GROUP: tl.constexpr,
    PATCHES: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One chunk of columns of `rows` patches of one frame. With PATCHES writes their gradient;
    for GROUP questions, if any, the sum of the patches, each times its gradient."""
    CHUNKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_split = i_program // CHUNKS // splits, i_program // CHUNKS % splits
    i_first = tl.program_id(1).to(tl.int64) * GROUP
    i_b = tl.program_id(2).to(tl.int64)
    o_c = (i_program % CHUNKS) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    o_m = tl.arange(0, BLOCK_M)[:, None].to(tl.int64)
    p_x = x_ptr + i_b * stride_x_b + i_n * stride_x_n + o_m * stride_x_m + o_c
    p_grad_x = grad_x_ptr + ((i_b * N + i_n) * M + o_m) * C + o_c
    p_bank = bank_ptr + i_b * stride_bank_b + o_m * stride_bank_m + o_c
    p_q = q_ptr + i_b * stride_q_b + o_m * 0 + o_c
    p_grad = grad_ptr + i_b * stride_grad_b + i_n * stride_grad_n + o_m * 0 + o_c
    sums = zeros(GROUP, BLOCK_M, BLOCK_C)

    first = i_split * rows
    last = tl.minimum(first + rows, M)
    for m in range(first, last, BLOCK_M):
        m_m = m + o_m < last
        m_c = m_m & (o_c < C)
        b_x = tl.load(p_x + m * stride_x_m, mask=m_c, other=0.0).to(tl.float32)
        # Two conditions: the compiler decides the first, the program the second.
        if PATCHES:  # noqa: SIM102
            if i_first == 0:
                acc = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
                for q in range(Q):
                    p_row = assignment_ptr + i_b * stride_a_b + q * stride_a_q + i_n * stride_a_n
                    row = reference_row(p_row + tl.zeros([1, 1], tl.int64), R)
                    o_row = ((i_b * Q + q) * N + i_n) * M + m + o_m
                    weight = tl.load(weight_ptr + o_row, mask=m_m, other=0.0)
                    by_query = tl.load(query_ptr + o_row, mask=m_m, other=0.0)
                    by_key = tl.load(key_ptr + o_row, mask=m_m, other=0.0)
                    own = tl.load(own_ptr + o_row, mask=m_m, other=0.0)
                    b_grad = tl.load(p_grad + q * stride_grad_q, mask=m_c, other=0.0)
                    b_q = tl.load(p_q + q * stride_q_q, mask=m_c, other=0.0)
                    p_key = p_bank + row * stride_bank_r + m * stride_bank_m
                    b_key = tl.load(p_key, mask=m_c & (row >= 0), other=0.0)
                    acc += own * b_x + weight * b_grad.to(tl.float32)
                    acc += by_query * b_q.to(tl.float32) + by_key * b_key.to(tl.float32)
                tl.store(p_grad_x + m * C, acc.to(grad_x_ptr.dtype.element_ty), mask=m_c)
        added = ()
        for g in tl.static_range(GROUP):
            # As in the forward: past the last question it is repeated, and not stored.
            i_g = tl.minimum(i_first + g, Q - 1)
            o_row = ((i_b * Q + i_g) * N + i_n) * M + m + o_m
            by_query = tl.load(query_ptr + o_row, mask=m_m, other=0.0)
            added = added + (sums[g] + by_query * b_x,)
        sums = added

    for g in tl.static_range(GROUP):
        o_sum = (((i_b * N + i_n) * splits + i_split) * Q + i_first + g) * C + o_c
        m_sum = (o_c < C) & (i_first + g + o_c * 0 < Q)
        tl.store(sums_ptr + o_sum, tl.sum(sums[g], 0, keep_dims=True), mask=m_sum)


@triton.jit(do_not_specialize=["N", "M", "Q", "R", "blocks"])
def differential_pool_bwd_bank_kernel(
    x_ptr,
    bank_ptr,
    order_ptr,
    start_ptr,
    key_ptr,
    own_ptr,
    grad_ptr,
    N,
    M,
    Q,
    R,
    blocks,
    stride_x_b: tl.int64,
    stride_x_n: tl.int64,
    stride_x_m: tl.int64,
    stride_bank_b: tl.int64,
    stride_bank_r: tl.int64,
    stride_bank_m: tl.int64,
    C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """One tile of the gradient of one reference frame, from all frames compared with it."""
    CHUNKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    i_program = tl.program_id(0).to(tl.int64)
    i_r, i_block = i_program // CHUNKS // blocks, i_program // CHUNKS % blocks
    i_b = tl.program_id(1).to(tl.int64)
    o_c = (i_program % CHUNKS) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    o_m = i_block * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    m_m = o_m < M
    m_c = m_m & (o_c < C)
    p_x = x_ptr + i_b * stride_x_b + o_m * stride_x_m + o_c
    p_bank = bank_ptr + i_b * stride_bank_b + i_r * stride_bank_r + o_m * stride_bank_m + o_c

    acc = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
    own = tl.zeros([BLOCK_M, 1], tl.float32)
    first = tl.load(start_ptr + i_b * (R + 1) + i_r)
    last = tl.load(start_ptr + i_b * (R + 1) + i_r + 1)
    for i in range(first, last):
        i_entry = tl.load(order_ptr + i_b * N * Q + i)
        i_n, i_q = i_entry // Q, i_entry % Q
        o_row = ((i_b * Q + i_q) * N + i_n) * M + o_m
        by_key = tl.load(key_ptr + o_row, mask=m_m, other=0.0)
        own += tl.load(own_ptr + o_row, mask=m_m, other=0.0)
        b_x = tl.load(p_x + i_n * stride_x_n, mask=m_c, other=0.0).to(tl.float32)
        acc += by_key * b_x
    b_key = tl.load(p_bank, mask=m_c, other=0.0).to(tl.float32)
    p_grad = grad_ptr + ((i_b * R + i_r) * M + o_m) * C + o_c
    tl.store(p_grad, (acc + own * b_key).to(grad_ptr.dtype.element_ty), mask=m_c)


class Inputs(NamedTuple):
    """What every kernel of the backward gets, rows contiguous."""

    grad: Tensor
    x: Tensor
    q: Tensor
    bank: Tensor
    assignment: Tensor

    def strides(self) -> tuple[int, ...]:
        return (
            *self.grad.stride()[:3],
            *self.x.stride()[:3],
            *self.q.stride()[:2],
            *self.bank.stride()[:3],
            *self.assignment.stride(),
        )


class Factors(NamedTuple):
    """What multiplies each vector in the gradients, `[B, Q, N, M]` each."""

    weight: Tensor  # the token's gradient in the gradient of a patch
    query: Tensor  # the question there, and the patch in the gradient of the question
    key: Tensor  # the reference patch there, and the patch in the gradient of the reference
    own: Tensor  # the patch itself
    of_key: Tensor  # the reference patch in its own gradient


def differential_pool_backward(
    grad_tokens: Tensor,
    grad_weights: Tensor,
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    """Gradients of patches, queries, references, alpha and lam; see `_library.py`."""
    inputs = (patches, queries, references, alpha, lam)
    if not any(wanted) or 0 in (*patches.shape, queries.shape[1]):
        return tuple(
            torch.zeros_like(t) if want else t.new_empty(0)
            for t, want in zip(inputs, wanted, strict=True)
        )
    rows = Inputs(*map(rows_of, (grad_tokens, patches, queries, references)), assignment)
    q_norm = query_norms(queries, eps)
    factors, parts = _factors(rows, q_norm, grad_weights, alpha, lam, eps)
    # Summed in fp32 over a frame, then in fp64.
    grad_alpha, grad_lam = parts[..., :2].sum((0, 1, 2), dtype=torch.float64)
    grad_patches, grad_queries, grad_references = None, None, None
    if wanted[0] or wanted[1]:
        grad_patches, sums = _patches(rows, factors, *wanted[:2])
        if wanted[1]:
            norm = torch.where(q_norm > eps, parts[..., 2].sum(2, dtype=torch.float64), 0)
            norm = (norm / q_norm.double().square())[..., None]
            grad_queries = sums.sum((1, 2), dtype=torch.float64) - norm * queries
    if wanted[2]:
        grad_references = _references(rows, factors)
    grads = (grad_patches, grad_queries, grad_references, grad_alpha, grad_lam)
    return tuple(
        grad.to(t.dtype) if want else t.new_empty(0)
        for grad, t, want in zip(grads, inputs, wanted, strict=True)
    )


def _factors(
    rows: Inputs, q_norm: Tensor, grad_weights: Tensor, alpha: Tensor, lam: Tensor, eps: float
) -> tuple[Factors, Tensor]:
    """The factors, and `[B, Q, N, 3]`: shares in the gradients of alpha, lam and query norms."""
    b, n, m, c = rows.x.shape
    questions, bank = rows.q.shape[1], rows.bank.shape[1]
    norm = rows.x.new_empty((b, n, m), dtype=torch.float32)
    # Each a tensor of its own: parts of one would be aligned for some numbers of frames only.
    cos_query, cos_key, key_norm, grad_dot, weight = (
        norm.new_empty((b, questions, n, m)) for _ in range(5)
    )
    parts = norm.new_empty((b, questions, n, 3))
    block_m, block_c = backward_tile(c, rows.x.element_size())
    groups = -(-questions // MOST_QUESTIONS_OF_DOTS)
    piece = 16 * block_m
    pieces = -(-m // piece)
    launch(
        differential_pool_bwd_dots_kernel,
        (n * pieces, groups, b),
        rows.grad,
        rows.x,
        rows.q,
        q_norm,
        rows.bank,
        rows.assignment,
        eps,
        norm,
        cos_query,
        cos_key,
        key_norm,
        grad_dot,
        n,
        m,
        questions,
        bank,
        pieces,
        piece,
        *rows.strides(),
        C=c,
        GROUP=-(-questions // groups),
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    launch(
        differential_pool_bwd_softmax_kernel,
        (n, questions, b),
        grad_weights,
        q_norm,
        rows.assignment,
        alpha,
        lam,
        eps,
        norm,
        cos_query,
        cos_key,
        key_norm,
        grad_dot,
        weight,
        parts,
        n,
        m,
        questions,
        bank,
        *grad_weights.stride(),
        *rows.assignment.stride(),
        HAS_GRAD_WEIGHTS=grad_weights.numel() > 0,
        BLOCK=256,
        num_warps=BACKWARD_WARPS,
    )
    return Factors(weight, cos_query, cos_key, grad_dot, key_norm), parts


def _patches(
    rows: Inputs, factors: Factors, patches: bool, queries: bool
) -> tuple[Tensor | None, Tensor]:
    """The gradient of the patches, and `[B, N, splits, Q, C]`: for each question the sum of the
    patches of a frame, each times its factor."""
    b, n, m, c = rows.x.shape
    questions = rows.q.shape[1]
    block_m, block_c = backward_tile(c, rows.x.element_size())
    chunks = -(-c // block_c)
    group = min(questions, MOST_QUESTIONS) if queries else 0
    splits = row_splits(rows.x, questions, b * n * chunks)
    piece = -(-m // (splits * block_m)) * block_m
    splits = -(-m // piece)
    grad_x = rows.x.new_empty(rows.x.shape) if patches else None
    sums = factors.own.new_empty((b, n, splits, questions if queries else 0, c))
    launch(
        differential_pool_bwd_patches_kernel,
        (n * splits * chunks, -(-questions // group) if queries else 1, b),
        rows.grad,
        rows.x,
        rows.q,
        rows.bank,
        rows.assignment,
        *factors[:4],
        grad_x if patches else sums,
        sums,
        n,
        m,
        questions,
        rows.bank.shape[1],
        splits,
        piece,
        *rows.strides(),
        C=c,
        GROUP=group,
        PATCHES=patches,
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    return grad_x, sums


def _references(rows: Inputs, factors: Factors) -> Tensor:
    """The gradient of the bank."""
    b, n, m, c = rows.x.shape
    questions, bank = rows.q.shape[1], rows.bank.shape[1]
    grad = rows.bank.new_empty(rows.bank.shape)
    block_m, block_c = backward_tile(c, rows.x.element_size())
    blocks, chunks = -(-m // block_m), -(-c // block_c)
    launch(
        differential_pool_bwd_bank_kernel,
        (bank * blocks * chunks, b),
        rows.x,
        rows.bank,
        *_by_row_of_bank(rows.assignment, bank),
        factors.key,
        factors.of_key,
        grad,
        n,
        m,
        questions,
        bank,
        blocks,
        *rows.x.stride()[:3],
        *rows.bank.stride()[:3],
        C=c,
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    return grad


def _by_row_of_bank(assignment: Tensor, bank: int) -> tuple[Tensor, Tensor]:
    """Frames and questions, as `frame * Q + question`, by the row of the bank they go to
    `[B, N Q]`, and where each row begins in this list `[B, R + 1]`."""
    row = assignment.transpose(1, 2).flatten(1)
    nearest = row.clamp(0, max(bank - 1, 0))
    row, order = torch.where((row == -1) | (row == -2), bank, nearest).sort(dim=1, stable=True)
    starts = torch.arange(bank + 1, device=row.device).expand(len(row), -1).contiguous()
    return order, torch.searchsorted(row, starts)
