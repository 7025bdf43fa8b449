"""The four kernels of the gradients of `differential_pool`; `pooling_backward.py` launches them."""

# Triton compiles `tiles + (tile,)`, but not `(*tiles, tile)`.

import triton
import triton.language as tl

from .halves import load_fp32
from .pooling import ASSIGNMENT_STRIDES, reference_row, zeros


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
    stride_grad_half: tl.int64,
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
    HALVES: tl.constexpr,
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
                b_grad = load_fp32(p_grad + grad[g] + c, stride_grad_half, m_c, HALVES)
                added = added + (
                    dots[4 * g] + b_x * b_q.to(tl.float32),
                    dots[4 * g + 1] + b_x * b_key,
                    dots[4 * g + 2] + b_key * b_key,
                    dots[4 * g + 3] + b_x * b_grad,
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
    norm_k_ptr,
    cos_query_ptr,
    cos_key_ptr,
    key_norm_ptr,
    grad_dot_ptr,
    weight_ptr,
    own_k_ptr,
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
    TWO_MAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One frame and question. Writes the weights, and what multiplies each vector in place of
    what it read: the question (cos_query), the key in the patch's gradient and the patch in the
    key's (cos_key), the key itself (key_norm), the patch itself (grad_dot). Of part
    `[B, Q, N, 3]`: shares in the gradients of alpha and lam, and the sum for the question's norm.

    With TWO_MAPS the vectors compared with the key are others than those compared with the
    question: norm_k has their norms, own_k gets what multiplies them themselves, and a key from
    the same frame is a vector of its own.
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
        norm_k = norm
        if TWO_MAPS:
            norm_k = tl.load(norm_k_ptr + (i_b * N + i_n) * M + o_m, mask=m_m, other=1.0)
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
        from_key = grad_key / norm_k / key_norm
        of_key = tl.where(key_norm > eps, -grad_key * cos_key / key_norm / key_norm, 0.0)
        if TWO_MAPS:
            own = tl.where(norm > eps, -grad_query * cos_query / norm / norm, 0.0)
            own_k = tl.where(norm_k > eps, -grad_key * cos_key / norm_k / norm_k, 0.0)
            tl.store(own_k_ptr + i_row + o_m, own_k, mask=m_m)
        else:
            own = -(grad_query * cos_query + grad_key * cos_key) / norm / norm
            own = tl.where(norm > eps, own, 0.0)
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
    stride_grad_half: tl.int64,
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
    HALVES: tl.constexpr,
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
                    b_grad = load_fp32(p_grad + q * stride_grad_q, stride_grad_half, m_c, HALVES)
                    b_q = tl.load(p_q + q * stride_q_q, mask=m_c, other=0.0)
                    p_key = p_bank + row * stride_bank_r + m * stride_bank_m
                    b_key = tl.load(p_key, mask=m_c & (row >= 0), other=0.0)
                    acc += own * b_x + weight * b_grad
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
    # A row that no frame is compared with may hold anything.
    m_used = m_c & (first + tl.zeros([1, 1], tl.int64) < last)
    b_key = tl.load(p_bank, mask=m_used, other=0.0).to(tl.float32)
    p_grad = grad_ptr + ((i_b * R + i_r) * M + o_m) * C + o_c
    tl.store(p_grad, (acc + own * b_key).to(grad_ptr.dtype.element_ty), mask=m_c)
