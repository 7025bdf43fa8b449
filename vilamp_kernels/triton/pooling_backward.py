"""Gradients of `differential_pool`: the forward is computed again, nothing was kept.

1. dots: cosines, norms and the products of patches with the tokens' gradients, one read of the
   patches for every two questions. Kept: five numbers for each patch and question.
2. softmax: from these, what multiplies each vector in the gradients.
3. patches: the gradient of the patches, and sums over patches for the questions, one read.
4. bank: the gradient of each reference frame, a sum over the frames that were compared with it.

Each output is summed by one program in one order, so the results are the same every time.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .halves import beside
from .launch import launch
from .pooling import query_norms, rows_of
from .pooling_backward_kernels import (
    differential_pool_bwd_bank_kernel,
    differential_pool_bwd_dots_kernel,
    differential_pool_bwd_patches_kernel,
    differential_pool_bwd_softmax_kernel,
)
from .pooling_tiles import (
    BACKWARD_WARPS,
    MOST_QUESTIONS,
    MOST_QUESTIONS_OF_DOTS,
    backward_tile,
    row_splits,
)


class Inputs(NamedTuple):
    """What every kernel of the backward gets, rows contiguous."""

    grad: Tensor  # [halves, B, Q, N, C]: fp32 as it is, or beside 16-bit patches its two halves
    x: Tensor
    q: Tensor
    bank: Tensor
    assignment: Tensor

    def strides(self) -> tuple[int, ...]:
        return (
            *self.grad.stride()[:4],
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
    grad = beside(patches, rows_of(grad_tokens))
    rows = Inputs(grad, *map(rows_of, (patches, queries, references)), assignment)
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
        HALVES=len(rows.grad) == 2,
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
        norm,
        cos_query,
        cos_key,
        key_norm,
        grad_dot,
        weight,
        weight,
        parts,
        n,
        m,
        questions,
        bank,
        *grad_weights.stride(),
        *rows.assignment.stride(),
        HAS_GRAD_WEIGHTS=grad_weights.numel() > 0,
        TWO_MAPS=False,
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
        HALVES=len(rows.grad) == 2,
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
        *by_row_of_bank(rows.assignment, bank),
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


def by_row_of_bank(assignment: Tensor, bank: int) -> tuple[Tensor, Tensor]:
    """Frames and questions, as `frame * Q + question`, by the row of the bank they go to
    `[B, N Q]`, and where each row begins in this list `[B, R + 1]`."""
    row = assignment.transpose(1, 2).flatten(1)
    nearest = row.clamp(0, max(bank - 1, 0))
    row, order = torch.where((row == -1) | (row == -2), bank, nearest).sort(dim=1, stable=True)
    starts = torch.arange(bank + 1, device=row.device).expand(len(row), -1).contiguous()
    return order, torch.searchsorted(row, starts)
