"""Gradient of the projected pooling: the formula of the reference, with its products by kernels.

Mapped patches are needed as they are, not only their cosines, so the kernel of the forward is of
no use: a chunk of frames is mapped, its gradients are formed in PyTorch, and kernels multiply them
with the maps and with the patches. 16-bit patches go through the maps on tensor cores without
being widened first. A reference frame is mapped once for all frames of the chunk that are compared
with it, and the gradients of these are summed before they are multiplied.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..reference.numerics import Unit, cosine, cosine_grad, exact_matmul
from ..reference.pooling import (
    check_assignment,
    empty_grads,
    only_wanted,
    pieces,
    scalar_grads,
    softmax_grads,
    softmax_of,
)
from .maps import Map, add_map_grad, map_rows
from .projected import map_queries, slots_of
from .rows import unit_stride


class Maps(NamedTuple):
    """The maps of rows of one dtype, and the transposed weights, which take gradients back."""

    to: Map
    back: Map

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, rows: torch.dtype) -> Maps:
        none = bias.new_zeros(weight.shape[1])
        return cls(Map.of(weight, bias, rows), Map.of(weight.mT, none, torch.float32))


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
    given_maps = (w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k)
    inputs = (patches, queries, references, *given_maps, alpha, lam)
    grads = empty_grads(inputs, wanted)
    grad_patches, grad_queries, grad_references = grads[:3]
    grad_w_iq, grad_b_iq, grad_w_ik, grad_b_ik, grad_w_q, grad_b_q, grad_w_k, grad_b_k = grads[3:11]
    grad_alpha, grad_lam = grads[11:]
    dtype = patches.dtype
    for_query, for_key = Maps.of(w_iq, b_iq, dtype), Maps.of(w_ik, b_ik, dtype)
    of_key = Maps.of(w_k, b_k, dtype)
    alpha, lam, wide_w_q = alpha.float(), lam.float(), w_q.float()
    mapped_queries = map_queries(queries, w_q, b_q).rows[:, 0]  # [B, Q, P]

    for video, frames in pieces(patches, _bytes_per_frame(patches, w_iq)):
        x = patches[video, frames]
        bank = references[video]
        every = torch.arange(x.shape[0], device=x.device)
        # Slots [Q, n] of the mapped references, and the frames of the bank in these slots [S].
        slots, used = (t[0] for t in slots_of(assignment[video, :, frames][None], bank.shape[0]))
        itself = torch.where((slots == -2).any(0), every, -1)
        mapped_bank = _mapped(bank, used, of_key.to)
        mapped_self = _mapped(x, itself, of_key.to)
        unit_q = Unit.of(_mapped(x, every, for_query.to), eps)
        unit_k = Unit.of(_mapped(x, every, for_key.to), eps)
        grad_for_query = torch.zeros_like(unit_q.rows)  # [n, M, P] of W_iq x
        grad_for_key = torch.zeros_like(unit_k.rows)  # [n, M, P] of W_ik x
        grad_bank = torch.zeros_like(mapped_bank)  # [S, M, P] of W_k key
        grad_self = torch.zeros_like(mapped_self)  # [n, M, P] of W_k x
        wide_x = x.float()
        grad_x = torch.zeros_like(wide_x)
        for question in range(queries.shape[1]):
            query = Unit.of(mapped_queries[video, question], eps)
            slot = slots[question]
            own = (slot == -2).view(-1, 1, 1)
            banked = (slot >= 0).view(-1, 1, 1)
            # Rows that were not mapped hold anything: zeros stand in for them.
            key = torch.where(own, mapped_self, 0)
            if mapped_bank.shape[0] > 0:
                key = torch.where(banked, mapped_bank[slot.clamp(min=0)], key)
            key = Unit.of(key, eps)
            cos_query, cos_key = cosine(unit_q, query), cosine(unit_k, key)
            logits, w = softmax_of(cos_query, cos_key, alpha, lam)

            grad_token = grad_tokens[video, question, frames]
            grad_w = grad_weights[video, question, frames] if grad_weights.numel() else None
            grad_logits = softmax_grads(wide_x, w, grad_token, grad_w)
            part_alpha, part_lam = scalar_grads(grad_logits, logits, cos_key, alpha)
            grad_alpha += part_alpha
            grad_lam += part_lam
            grad_x += w.unsqueeze(-1) * grad_token.unsqueeze(-2)

            grad_query = grad_logits / alpha  # of the cosine with the query
            grad_for_query += cosine_grad(grad_query, cos_query, unit_q, query, eps)
            grad_query = cosine_grad(grad_query, cos_query, query, unit_q, eps).sum((0, 1))  # [P]
            grad_queries[video, question] += grad_query @ wide_w_q
            grad_w_q.addr_(grad_query, queries[video, question].float())
            grad_b_q += grad_query

            grad_key = torch.where((slot != -1)[:, None], -lam * grad_logits / alpha, 0)
            grad_for_key += cosine_grad(grad_key, cos_key, unit_k, key, eps)
            grad_key = cosine_grad(grad_key, cos_key, key, unit_k, eps)
            grad_self += torch.where(own, grad_key, 0)
            if mapped_bank.shape[0] > 0:
                grad_bank.index_add_(0, slot.clamp(min=0), torch.where(banked, grad_key, 0))

        for grad, weight, bias, rows, frame in (
            (grad_for_query, grad_w_iq, grad_b_iq, x, every),
            (grad_for_key, grad_w_ik, grad_b_ik, x, every),
            (grad_self, grad_w_k, grad_b_k, x, itself),
            (grad_bank, grad_w_k, grad_b_k, bank, used),
        ):
            add_map_grad(weight, grad, rows, frame)
            bias += grad.sum((0, 1))
        if wanted[0]:
            grad_x += _mapped(grad_for_query, every, for_query.back)
            grad_x += _mapped(grad_for_key, every, for_key.back)
            grad_key = _mapped(grad_self, itself, of_key.back)
            grad_x += torch.where((itself >= 0).view(-1, 1, 1), grad_key, 0)
            grad_patches[video, frames] = grad_x
        if wanted[2] and used.shape[0] > 0:
            in_use = used >= 0
            slot = torch.where(in_use, torch.arange(used.shape[0], device=x.device), -1)
            grad_key = torch.where(in_use.view(-1, 1, 1), _mapped(grad_bank, slot, of_key.back), 0)
            grad_references[video].index_add_(0, used.clamp(min=0), grad_key)
    return only_wanted(grads, inputs, wanted)


def _mapped(x: Tensor, slots: Tensor, by: Map) -> Tensor:
    """Frames `slots [S]` of `x [R, M, C]`, mapped: `[S, M, P]` fp32."""
    return map_rows(x[None], slots[None], by).rows[0]


def _bytes_per_frame(patches: Tensor, weight: Tensor) -> int:
    return patches.shape[2] * max(patches.shape[3], weight.shape[0]) * 4
