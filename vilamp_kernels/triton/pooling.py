"""`differential_pool`: every patch is read once and stays in registers until its weight is known.

A program takes one frame, or a part of its patches, and up to eight questions. Its threads span
the columns: each tile of a few patches is loaded in chunks, its dot products are summed over the
threads, its logits join a running softmax, and its rows, still in registers, the sums. Programs
go by frame, so those that share a reference frame run side by side and find it in the L2 cache.
"""

# Triton compiles `tiles + (tile,)`, but not `(*tiles, tile)`.

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from ..reference.pooling import check_assignment, empty_outputs
from .launch import launch
from .pooling_tiles import forward_tile, row_splits

ASSIGNMENT_STRIDES = ["stride_a_b", "stride_a_q", "stride_a_n"]
"""Of `[B, Q, N]`: some are multiples of N, on which no kernel is specialised."""


@triton.jit
def reference_row(p_assignment, R):
    """Row of the bank for a frame, -1 for none, -2 for the frame itself. Rows outside are the
    nearest one, since an error would stop the device; an empty bank has none."""
    row = tl.load(p_assignment)
    nearest = tl.where(R > 0, tl.minimum(tl.maximum(row, 0), R - 1), -1)
    return tl.where((row == -1) | (row == -2), row, nearest)


@triton.jit
def zeros(COUNT: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr):
    """A tuple of COUNT tiles of zeros."""
    tiles = ()
    for _ in tl.static_range(COUNT):
        tiles = tiles + (tl.full([ROWS, BLOCK_C], 0.0, tl.float32),)
    return tiles


@triton.jit(do_not_specialize=["N", "M", "Q", "R", "splits", "rows", *ASSIGNMENT_STRIDES])
def differential_pool_fwd_kernel(
    x_ptr,
    q_ptr,
    q_norm_ptr,
    bank_ptr,
    assignment_ptr,
    alpha_ptr,
    lam_ptr,
    eps,
    out_ptr,
    max_ptr,
    sum_ptr,
    logits_ptr,
    N,
    M,
    Q,
    R,
    splits,
    rows,
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
    SPLIT: tl.constexpr,
    WEIGHTS: tl.constexpr,
):
    """`rows` patches of one frame for GROUP questions. Writes the tokens, or with SPLIT the
    unnormalised sums with the maximum and the sum of the weights; with WEIGHTS also the logits."""
    CHUNKS: tl.constexpr = (C + BLOCK_C - 1) // BLOCK_C
    i_program = tl.program_id(0).to(tl.int64)
    i_n, i_split = i_program // splits, i_program % splits
    # Numbers of questions, and what is read by them, are tiles of one: they broadcast in masks.
    i_q = tl.program_id(1) * GROUP + tl.zeros([1, 1], tl.int64)
    i_b = tl.program_id(2).to(tl.int64)
    eps = tl.full([], eps, tl.float32)
    alpha = tl.load(alpha_ptr).to(tl.float32)
    lam = tl.load(lam_ptr).to(tl.float32)

    o_c = tl.arange(0, BLOCK_C)[None, :]
    o_m = tl.arange(0, BLOCK_M)[:, None].to(tl.int64)
    p_x = x_ptr + i_b * stride_x_b + i_n * stride_x_n + o_m * stride_x_m + o_c
    p_bank = bank_ptr + i_b * stride_bank_b + o_m * stride_bank_m + o_c
    # A tile of equal rows: each thread reads its columns, and no layout has to be converted.
    p_q = q_ptr + i_b * stride_q_b + o_m * 0 + o_c

    question, row, q_norm, best, total = (), (), (), (), ()
    for g in tl.static_range(GROUP):
        # The last group may have too few: it repeats the last one, and does not store it.
        i_g = tl.minimum(i_q + g, Q - 1)
        p_row = assignment_ptr + i_b * stride_a_b + i_g * stride_a_q + i_n * stride_a_n
        question = question + (i_g * stride_q_q,)
        row = row + (reference_row(p_row, R),)
        q_norm = q_norm + (tl.load(q_norm_ptr + i_b * Q + i_g),)
        best = best + (tl.full([1, 1], float("-inf"), tl.float32),)
        total = total + (tl.zeros([1, 1], tl.float32),)
    acc = zeros(GROUP * CHUNKS, 1, BLOCK_C)

    first = i_split * rows
    last = tl.minimum(first + rows, M)
    for m in range(first, last, BLOCK_M):
        m_m = m + o_m < last
        x = ()
        for i in tl.static_range(CHUNKS):
            m_x = m_m & (i * BLOCK_C + o_c < C)
            x = x + (tl.load(p_x + m * stride_x_m + i * BLOCK_C, mask=m_x, other=0.0),)

        square = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
        dots = zeros(GROUP, BLOCK_M, BLOCK_C)
        for i in tl.static_range(CHUNKS):
            b_x = x[i].to(tl.float32)
            square += b_x * b_x
            added = ()
            for g in tl.static_range(GROUP):
                # The mask depends on the patch, or the compiler would keep all questions in
                # registers, which are needed for the patches; they stay in the L1 cache.
                m_c = m_m & (i * BLOCK_C + o_c < C)
                b_q = tl.load(p_q + question[g] + i * BLOCK_C, mask=m_c, other=0.0)
                added = added + (dots[g] + b_x * b_q.to(tl.float32),)
            dots = added
        square = tl.sum(square, 1, keep_dims=True)
        norm = tl.maximum(tl.sqrt_rn(square), eps)

        new_best, new_total, new_acc = (), (), ()
        for g in tl.static_range(GROUP):
            p_key = p_bank + row[g] * stride_bank_r + m * stride_bank_m
            dot = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
            key_square = tl.full([BLOCK_M, BLOCK_C], 0.0, tl.float32)
            for i in tl.static_range(CHUNKS):
                m_c = m_m & (i * BLOCK_C + o_c < C) & (row[g] >= 0)
                b_key = tl.load(p_key + i * BLOCK_C, mask=m_c, other=0.0).to(tl.float32)
                dot += x[i].to(tl.float32) * b_key
                key_square += b_key * b_key
            dot = tl.where(row[g] == -2, square, tl.sum(dot, 1, keep_dims=True))
            key_square = tl.where(row[g] == -2, square, tl.sum(key_square, 1, keep_dims=True))
            # Rounded correctly: at a small alpha the last bits of a cosine show in the weights.
            cos_query = tl.div_rn(tl.sum(dots[g], 1, keep_dims=True), norm * q_norm[g])
            key_norm = tl.maximum(tl.sqrt_rn(key_square), eps)
            cos_key = tl.where(row[g] == -1, 0.0, tl.div_rn(dot, norm * key_norm))
            logit = tl.div_rn(cos_query - lam * cos_key, alpha)
            if WEIGHTS:
                p_logit = logits_ptr + ((i_b * Q + i_q + g) * N + i_n) * M + m + o_m
                tl.store(p_logit, logit, mask=m_m & (i_q + g < Q))

            logit = tl.where(m_m, logit, float("-inf"))
            top = tl.maximum(best[g], tl.max(logit, 0, keep_dims=True))
            # -inf less -inf would be NaN: such a patch has no weight until all have it.
            keep = tl.where(top == best[g], 1.0, tl.exp(best[g] - top))
            weight = tl.where(logit == float("-inf"), 0.0, tl.exp(logit - top))
            new_best = new_best + (top,)
            new_total = new_total + (total[g] * keep + tl.sum(weight, 0, keep_dims=True),)
            for i in tl.static_range(CHUNKS):
                more = tl.sum(weight * x[i].to(tl.float32), 0, keep_dims=True)
                new_acc = new_acc + (acc[g * CHUNKS + i] * keep + more,)
        best, total, acc = new_best, new_total, new_acc

    for g in tl.static_range(GROUP):
        m_q = i_q + g < Q
        i_out = ((i_b * Q + i_q + g) * N + i_n) * splits + i_split
        scale = 1.0
        if SPLIT:
            tl.store(max_ptr + i_out, best[g], mask=m_q)
            tl.store(sum_ptr + i_out, total[g], mask=m_q)
        else:
            scale = 1.0 / total[g]
        for i in tl.static_range(CHUNKS):
            p_out = out_ptr + i_out * C + i * BLOCK_C + o_c
            tl.store(p_out, acc[g * CHUNKS + i] * scale, mask=m_q & (i * BLOCK_C + o_c < C))


@triton.jit(do_not_specialize=["splits"])
def differential_pool_combine_kernel(
    part_ptr, max_ptr, sum_ptr, out_ptr, splits, C: tl.constexpr, BLOCK_C: tl.constexpr
):
    """One token for one chunk of columns, from the sums of the parts of its frame."""
    i_out = tl.program_id(0).to(tl.int64)
    o_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    best = tl.load(max_ptr + i_out * splits)
    for i in range(1, splits):
        best = tl.maximum(best, tl.load(max_ptr + i_out * splits + i))
    total = 0.0
    acc = tl.zeros([BLOCK_C], tl.float32)
    for i in range(splits):
        top = tl.load(max_ptr + i_out * splits + i)
        scale = tl.where(top == best, 1.0, tl.exp(top - best))
        total += scale * tl.load(sum_ptr + i_out * splits + i)
        p_part = part_ptr + (i_out * splits + i) * C + o_c
        acc += scale * tl.load(p_part, mask=o_c < C, other=0.0)
    tl.store(out_ptr + i_out * C + o_c, acc / total, mask=o_c < C)


@triton.jit(do_not_specialize=["M"])
def softmax_rows_kernel(logits_ptr, M, BLOCK: tl.constexpr):
    """Softmax of one row of M logits, in place."""
    p_row = logits_ptr + tl.program_id(0).to(tl.int64) * M
    o_m = tl.arange(0, BLOCK)
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    for m in range(0, M, BLOCK):
        best = tl.maximum(best, tl.load(p_row + m + o_m, mask=m + o_m < M, other=float("-inf")))
    best = tl.max(best, 0)
    total = tl.zeros([BLOCK], tl.float32)
    for m in range(0, M, BLOCK):
        b = tl.load(p_row + m + o_m, mask=m + o_m < M, other=float("-inf"))
        total += tl.exp(b - best)
    total = tl.sum(total, 0)
    for m in range(0, M, BLOCK):
        b = tl.load(p_row + m + o_m, mask=m + o_m < M, other=float("-inf"))
        tl.store(p_row + m + o_m, tl.exp(b - best) / total, mask=m + o_m < M)


def differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    return_weights: bool,
) -> tuple[Tensor, Tensor]:
    """See `_library.py` for the shapes.

    The patches are read once for every eight questions, fewer where a thread's registers do not
    suffice (five at 3584 columns of bf16). Patches wider than about 20,000 columns go to the
    reference.
    """
    check_assignment("differential_pool", assignment, references.shape[1])
    b, n, m, c = patches.shape
    questions = queries.shape[1]
    tokens, weights = empty_outputs(patches, questions, return_weights)
    if 0 in tokens.shape or m == 0:
        return tokens.zero_(), weights
    tile = forward_tile(c, patches.element_size(), questions)
    if tile is None:
        return reference.differential_pool(
            patches, queries, references, assignment, alpha, lam, eps, return_weights
        )
    patches, queries, references = rows_of(patches), rows_of(queries), rows_of(references)
    groups = -(-questions // tile.questions)
    splits = row_splits(patches, questions, b * n * groups)
    rows = -(-m // (splits * tile.rows)) * tile.rows
    splits = -(-m // rows)

    parts, best, total = tokens, tokens, tokens
    if splits > 1:
        parts = tokens.new_empty((b, questions, n, splits, c))
        best = tokens.new_empty((b, questions, n, splits))
        total = torch.empty_like(best)
    launch(
        differential_pool_fwd_kernel,
        (n * splits, groups, b),
        patches,
        queries,
        query_norms(queries, eps),
        references,
        assignment,
        alpha,
        lam,
        eps,
        parts,
        best,
        total,
        weights,
        n,
        m,
        questions,
        references.shape[1],
        splits,
        rows,
        *patches.stride()[:3],
        *queries.stride()[:2],
        *references.stride()[:3],
        *assignment.stride(),
        C=c,
        GROUP=tile.questions,
        BLOCK_M=tile.rows,
        BLOCK_C=tile.width,
        SPLIT=splits > 1,
        WEIGHTS=return_weights,
        num_warps=tile.warps,
        num_stages=1,
    )
    if splits > 1:
        launch(
            differential_pool_combine_kernel,
            (b * questions * n, -(-c // tile.width)),
            parts,
            best,
            total,
            tokens,
            splits,
            C=c,
            BLOCK_C=tile.width,
            num_warps=tile.warps,
        )
    if return_weights:
        launch(softmax_rows_kernel, (b * questions * n,), weights, m, BLOCK=256, num_warps=4)
    return tokens, weights


def rows_of(tensor: Tensor) -> Tensor:
    """The tensor with elements of a row side by side: copied only where they are not."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def query_norms(queries: Tensor, eps: float) -> Tensor:
    """Lengths of the questions `[B, Q]` in fp32, at least `eps`."""
    return torch.linalg.vector_norm(queries, dim=-1, dtype=torch.float32).clamp_min(eps)
