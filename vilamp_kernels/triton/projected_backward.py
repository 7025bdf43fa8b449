"""Gradient of the projected pooling: the forward is computed again for a chunk of frames at a time.

Mapped patches are needed as they are, not only their cosines, so the kernel of the forward is of
no use. For each chunk:

1. `map_rows` maps the patches under both maps, each reference frame in use once, and the frames
   that are their own reference. 16-bit patches go through tensor cores without being widened.
2. dots, then softmax: cosines and norms, and from them what multiplies each vector in the
   gradients, five numbers for each patch and question.
3. rows, then bank: the gradients of all mapped rows; those of a reference frame are summed over
   the frames that were compared with it.
4. `add_map_grad` multiplies these with what was mapped, `map_rows` with the maps.
5. patches: what came back through the maps and the tokens' gradients, one write.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..reference.numerics import exact_matmul
from ..reference.pooling import check_assignment, empty_grads, only_wanted, pieces
from .halves import beside
from .launch import launch
from .maps import Map, add_map_grad, map_rows
from .pooling import query_norms
from .pooling_backward import by_row_of_bank
from .pooling_backward_kernels import (
    differential_pool_bwd_bank_kernel,
    differential_pool_bwd_softmax_kernel,
)
from .pooling_tiles import BACKWARD_WARPS, backward_tile
from .projected import map_queries, slots_of
from .projected_backward_kernels import (
    projected_bwd_dots_kernel,
    projected_bwd_patches_kernel,
    projected_bwd_rows_kernel,
)
from .rows import unit_stride


class Maps(NamedTuple):
    """The maps of rows of one dtype, and the transposed weights, which take gradients back."""

    to: Map
    back: Map

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, rows: torch.dtype) -> Maps:
        none = bias.new_zeros(weight.shape[1])
        return cls(Map.of(weight, bias, rows), Map.of(weight.mT, none, torch.float32))


class Mapped(NamedTuple):
    """Mapped rows of a chunk of n frames, fp32; see `projected_backward_kernels.py`."""

    for_query: Tensor  # [n, M, P] of W_iq x
    for_key: Tensor  # [n, M, P] of W_ik x
    query: Tensor  # [Q, P] of W_q t
    bank: Tensor  # [S, M, P] of W_k key
    itself: Tensor  # [n, M, P] of W_k x
    slots: Tensor  # [Q, n]


class Factors(NamedTuple):
    """What multiplies each vector in the gradients, `[Q, n, M]` each."""

    weight: Tensor  # the token's gradient in the gradient of a patch
    query: Tensor  # the question in that of `for_query`, and the other way round
    key: Tensor  # the key in that of `for_key`, and the other way round
    own_query: Tensor  # `for_query` in its own
    own_key: Tensor  # `for_key` in its own
    of_key: Tensor  # the key in its own


class RowGrads(NamedTuple):
    """Gradients of the mapped rows, fp32."""

    for_query: Tensor  # [n, M, P]
    for_key: Tensor  # [n, M, P]
    itself: Tensor  # [n, M, P], zeros where a frame is not its own reference
    bank: Tensor  # [S, M, P]


@exact_matmul()
def projected_differential_pool_backward(
    grad_tokens: Tensor,
    grad_weights: Tensor,
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
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    """Gradients of all floating inputs in the order of the arguments; recomputes the forward."""
    check_assignment("projected_differential_pool", assignment, references.shape[1])
    patches, references = unit_stride(patches), unit_stride(references)
    grad_tokens = unit_stride(grad_tokens)
    given_maps = (w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k)
    inputs = (patches, queries, references, *given_maps, alpha, lam)
    grads = empty_grads(inputs, wanted)
    if 0 in (*patches.shape, queries.shape[1]):
        grads[0].zero_()
        return only_wanted(grads, inputs, wanted)
    grad_patches, grad_queries, grad_references = grads[:3]
    grad_w_iq, grad_b_iq, grad_w_ik, grad_b_ik, grad_w_q, grad_b_q, grad_w_k, grad_b_k = grads[3:11]
    grad_alpha, grad_lam = grads[11:]
    dtype = patches.dtype
    for_query, for_key = Maps.of(w_iq, b_iq, dtype), Maps.of(w_ik, b_ik, dtype)
    of_key = Maps.of(w_k, b_k, dtype)
    mapped_queries = map_queries(queries, w_q, b_q).rows[:, 0]  # [B, Q, P]
    query_norm = query_norms(mapped_queries, eps)

    for video, frames in pieces(patches, _bytes_per_frame(patches, w_iq)):
        x, bank = patches[video, frames], references[video]
        every = torch.arange(x.shape[0], device=x.device)
        # Slots [Q, n] of the mapped references, and the frames of the bank in these slots [S].
        slots, used = (t[0] for t in slots_of(assignment[video, :, frames][None], bank.shape[0]))
        itself = torch.where((slots == -2).any(0), every, -1)
        mapped = Mapped(
            _mapped(x, every, for_query.to),
            _mapped(x, every, for_key.to),
            mapped_queries[video],
            _mapped(bank, used, of_key.to),
            _mapped(x, itself, of_key.to),
            slots,
        )
        grad_token = grad_tokens[video, :, frames]
        grad_weight = grad_weights[video, :, frames] if grad_weights.numel() else grad_weights[0]
        factors, parts = _factors(
            mapped, x, grad_token, grad_weight, query_norm[video], alpha, lam, eps
        )
        rows = _row_grads(mapped, factors)

        # Summed in fp32 over a frame, then in fp64.
        share_alpha, share_lam, share_norm = parts.sum(1, dtype=torch.float64).unbind(-1)
        grad_alpha += share_alpha.sum()
        grad_lam += share_lam.sum()
        grad_query = _query_grad(mapped, factors, share_norm, query_norm[video], eps)
        grad_queries[video] += grad_query @ w_q.float()
        grad_w_q.addmm_(grad_query.mT, queries[video].float())
        grad_b_q += grad_query.sum(0)
        for grad, weight, bias, of, frame in (
            (rows.for_query, grad_w_iq, grad_b_iq, x, every),
            (rows.for_key, grad_w_ik, grad_b_ik, x, every),
            (rows.itself, grad_w_k, grad_b_k, x, itself),
            (rows.bank, grad_w_k, grad_b_k, bank, used),
        ):
            add_map_grad(weight, grad, of, frame)
            bias += grad.sum((0, 1))
        if wanted[0]:
            from_maps = (
                _mapped(rows.for_query, every, for_query.back),
                _mapped(rows.for_key, every, for_key.back),
                _mapped(rows.itself, itself, of_key.back),
            )
            out = grad_patches[video, frames]
            _write_patches(out, factors.weight, grad_token, from_maps, itself)
        if wanted[2] and used.shape[0] > 0:
            in_use = used >= 0
            slot = torch.where(in_use, torch.arange(used.shape[0], device=x.device), -1)
            grad_key = _mapped(rows.bank, slot, of_key.back)
            grad_key = torch.where(in_use.view(-1, 1, 1), grad_key, 0)
            grad_references[video].index_add_(0, used.clamp(min=0), grad_key)
    return only_wanted(grads, inputs, wanted)


def _factors(
    mapped: Mapped,
    x: Tensor,
    grad_tokens: Tensor,
    grad_weights: Tensor,
    query_norm: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
) -> tuple[Factors, Tensor]:
    """The factors, and `[Q, n, 3]`: shares in the gradients of alpha, lam and query norms."""
    n, m, p = mapped.for_query.shape
    c, questions = x.shape[2], len(mapped.query)
    grad = beside(x, grad_tokens)
    block_m, block_p = backward_tile(p, 4)
    # As many rows, of the patches' own width.
    _, block_c = backward_tile(c, x.element_size())
    blocks = -(-m // block_m)
    norm_query, norm_key = (mapped.query.new_empty((n, m)) for _ in range(2))
    # Each a tensor of its own: parts of one would be aligned for some numbers of frames only.
    cos_query, cos_key, key_norm, grad_dot, weight, own_key = (
        mapped.query.new_empty((questions, n, m)) for _ in range(6)
    )
    launch(
        projected_bwd_dots_kernel,
        (n * blocks, questions),
        x,
        grad,
        *mapped[:3],
        query_norm,
        *mapped[3:],
        eps,
        norm_query,
        norm_key,
        cos_query,
        cos_key,
        key_norm,
        grad_dot,
        n,
        m,
        blocks,
        *x.stride()[:2],
        *grad.stride()[:3],
        C=c,
        P=p,
        HALVES=len(grad) == 2,
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    parts = mapped.query.new_empty((questions, n, 3))
    launch(
        differential_pool_bwd_softmax_kernel,
        (n, questions, 1),
        grad_weights,
        query_norm,
        mapped.slots,
        alpha,
        lam,
        eps,
        norm_query,
        norm_key,
        cos_query,
        cos_key,
        key_norm,
        grad_dot,
        weight,
        own_key,
        parts,
        n,
        m,
        questions,
        len(mapped.bank),
        0,
        *grad_weights.stride(),
        0,
        *mapped.slots.stride(),
        HAS_GRAD_WEIGHTS=grad_weights.numel() > 0,
        TWO_MAPS=True,
        BLOCK=256,
        num_warps=BACKWARD_WARPS,
    )
    return Factors(weight, cos_query, cos_key, grad_dot, own_key, key_norm), parts


def _row_grads(mapped: Mapped, factors: Factors) -> RowGrads:
    """Gradients of the mapped rows, without those of the questions."""
    n, m, p = mapped.for_query.shape
    questions, bank = len(mapped.query), len(mapped.bank)
    grads = RowGrads(*map(torch.empty_like, (mapped[0], mapped[1], mapped.itself, mapped.bank)))
    block_m, block_p = backward_tile(p, 4)
    blocks, chunks = -(-m // block_m), -(-p // block_p)
    launch(
        projected_bwd_rows_kernel,
        (n * blocks * chunks,),
        *mapped,
        *factors[1:],
        *grads[:3],
        n,
        m,
        questions,
        blocks,
        P=p,
        BLOCK_M=block_m,
        BLOCK_P=block_p,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    launch(
        differential_pool_bwd_bank_kernel,
        (bank * blocks * chunks, 1),
        mapped.for_key,
        mapped.bank,
        *by_row_of_bank(mapped.slots[None], bank),
        factors.key,
        factors.of_key,
        grads.bank,
        n,
        m,
        questions,
        bank,
        blocks,
        0,
        *mapped.for_key.stride()[:2],
        0,
        *mapped.bank.stride()[:2],
        C=p,
        BLOCK_M=block_m,
        BLOCK_C=block_p,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )
    return grads


def _query_grad(
    mapped: Mapped, factors: Factors, share_norm: Tensor, query_norm: Tensor, eps: float
) -> Tensor:
    """Gradient `[Q, P]` of the mapped questions."""
    grad = torch.zeros_like(mapped.query)
    frames = torch.arange(len(mapped.for_query), device=grad.device)
    add_map_grad(grad, factors.query.permute(1, 2, 0).contiguous(), mapped.for_query, frames)
    # The gradient of a norm on its floor is 0.
    own = torch.where(query_norm > eps, share_norm / query_norm.double().square(), 0)
    return grad - own.to(grad.dtype)[:, None] * mapped.query


def _write_patches(
    out: Tensor, weight: Tensor, grad_tokens: Tensor, from_maps: tuple[Tensor, ...], itself: Tensor
) -> None:
    """The gradient of the patches into `out [n, M, C]`."""
    n, m, c = out.shape
    # fp32 comes in and perhaps 16 bits go out: four elements a thread are one access of either.
    block_m, block_c = backward_tile(c, 4)
    blocks, chunks = -(-m // block_m), -(-c // block_c)
    launch(
        projected_bwd_patches_kernel,
        (n * blocks * chunks,),
        weight,
        grad_tokens,
        *from_maps,
        itself,
        out,
        n,
        m,
        len(weight),
        blocks,
        *grad_tokens.stride()[:2],
        C=c,
        BLOCK_M=block_m,
        BLOCK_C=block_c,
        num_warps=BACKWARD_WARPS,
        num_stages=1,
    )


def _mapped(x: Tensor, slots: Tensor, by: Map) -> Tensor:
    """Frames `slots [S]` of `x [R, M, C]`, mapped: `[S, M, P]` fp32."""
    return map_rows(x[None], slots[None], by).rows[0]


def _bytes_per_frame(patches: Tensor, weight: Tensor) -> int:
    return patches.shape[2] * max(patches.shape[3], weight.shape[0]) * 4
