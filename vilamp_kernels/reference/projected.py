"""Differential pooling in which the two cosines are taken after learned linear maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from .numerics import Unit, acc_dtype, cosine, cosine_grad, exact_matmul
from .pooling import (
    Keys,
    add_to_bank,
    check_assignment,
    cosine_with_keys,
    empty_grads,
    empty_outputs,
    gather_keys,
    only_wanted,
    pieces,
    scalar_grads,
    softmax_grads,
    softmax_of,
    weighted_sum,
)


class Maps(NamedTuple):
    """The four maps in the accumulation dtype: weights `[P, C]` (w_q `[P, D]`), biases `[P]`."""

    w_iq: Tensor
    b_iq: Tensor
    w_ik: Tensor
    b_ik: Tensor
    w_q: Tensor
    b_q: Tensor
    w_k: Tensor
    b_k: Tensor


class Piece(NamedTuple):
    """What forward and backward need of one chunk of frames and one question."""

    for_query: Unit  # [n, M, P] W_iq x
    for_key: Unit  # [n, M, P] W_ik x
    query: Unit  # [P] W_q t
    key: Unit  # [n, M, P] W_k key
    cos_query: Tensor  # [n, M]
    cos_key: Tensor  # [n, M], 0 where there is no reference


@exact_matmul()
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
    acc = acc_dtype(patches)
    maps = Maps(*(t.to(acc) for t in (w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k)))
    alpha, lam = alpha.to(acc), lam.to(acc)
    tokens, weights = empty_outputs(patches, queries.shape[1], return_weights)
    for video, frames in pieces(patches, _bytes_per_frame(patches, maps)):
        x = patches[video, frames].to(acc)
        for_query = Unit.of(linear(x, maps.w_iq, maps.b_iq), eps)
        for_key = Unit.of(linear(x, maps.w_ik, maps.b_ik), eps)
        for question in range(queries.shape[1]):
            query = queries[video, question].to(acc)
            keys = gather_keys(x, references[video], assignment[video, question, frames])
            piece = _piece(for_query, for_key, query, keys, maps, eps)
            _, w = softmax_of(piece.cos_query, piece.cos_key, alpha, lam)
            tokens[video, question, frames] = weighted_sum(w, x)
            if return_weights:
                weights[video, question, frames] = w
    return tokens, weights


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
    acc = acc_dtype(patches)
    given_maps = (w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k)
    inputs = (patches, queries, references, *given_maps, alpha, lam)
    maps = Maps(*(t.to(acc) for t in given_maps))
    alpha, lam = alpha.to(acc), lam.to(acc)
    grads = empty_grads(inputs, wanted)
    grad_patches, grad_queries, grad_references = grads[:3]
    grad_maps, (grad_alpha, grad_lam) = Maps(*grads[3:11]), grads[11:]
    for video, frames in pieces(patches, _bytes_per_frame(patches, maps)):
        x = patches[video, frames].to(acc)
        for_query = Unit.of(linear(x, maps.w_iq, maps.b_iq), eps)
        for_key = Unit.of(linear(x, maps.w_ik, maps.b_ik), eps)
        grad_x = torch.zeros_like(x)
        grad_for_query = torch.zeros_like(for_query.rows)
        grad_for_key = torch.zeros_like(for_key.rows)
        for question in range(queries.shape[1]):
            query = queries[video, question].to(acc)
            keys = gather_keys(x, references[video], assignment[video, question, frames])
            piece = _piece(for_query, for_key, query, keys, maps, eps)
            logits, w = softmax_of(piece.cos_query, piece.cos_key, alpha, lam)

            grad_token = grad_tokens[video, question, frames]
            grad_w = grad_weights[video, question, frames] if grad_weights.numel() else None
            grad_logits = softmax_grads(x, w, grad_token, grad_w)
            part_alpha, part_lam = scalar_grads(grad_logits, logits, piece.cos_key, alpha)
            grad_alpha += part_alpha
            grad_lam += part_lam

            grad_query = grad_logits / alpha  # of the cosine with the query
            grad_for_query += cosine_grad(grad_query, piece.cos_query, for_query, piece.query, eps)
            grad_query = cosine_grad(grad_query, piece.cos_query, piece.query, for_query, eps)
            grad_query = grad_query.sum((0, 1))  # [P]
            grad_queries[video, question] += grad_query @ maps.w_q
            grad_maps.w_q.addr_(grad_query, query)
            grad_maps.b_q.add_(grad_query)

            grad_key = torch.where(keys.present[:, None], -lam * grad_logits / alpha, 0)
            grad_for_key += cosine_grad(grad_key, piece.cos_key, for_key, piece.key, eps)
            grad_key = cosine_grad(grad_key, piece.cos_key, piece.key, for_key, eps)
            _add_weight_grads(grad_maps.w_k, grad_maps.b_k, grad_key, keys.patches)
            grad_key = grad_key @ maps.w_k  # [n, M, C]
            add_to_bank(grad_references, video, keys, grad_key)
            grad_x += torch.where(keys.itself.view(-1, 1, 1), grad_key, 0)
            grad_x += w.unsqueeze(-1) * grad_token.unsqueeze(-2)
        _add_weight_grads(grad_maps.w_iq, grad_maps.b_iq, grad_for_query, x)
        _add_weight_grads(grad_maps.w_ik, grad_maps.b_ik, grad_for_key, x)
        if wanted[0]:
            grad_x += grad_for_query @ maps.w_iq + grad_for_key @ maps.w_ik
            grad_patches[video, frames] = grad_x
    return only_wanted(grads, inputs, wanted)


def _piece(
    for_query: Unit, for_key: Unit, query: Tensor, keys: Keys, maps: Maps, eps: float
) -> Piece:
    # As many rows as a frame has patches: a product with one row would round differently from
    # the published one, which repeats the query for every patch.
    rows = query.expand(max(for_query.rows.shape[1], 1), -1)
    mapped_query = Unit.of(linear(rows, maps.w_q, maps.b_q)[0], eps)
    key = Unit.of(linear(keys.patches, maps.w_k, maps.b_k), eps)
    cos_query = cosine(for_query, mapped_query)
    return Piece(
        for_query, for_key, mapped_query, key, cos_query, cosine_with_keys(for_key, key, keys)
    )


def _add_weight_grads(grad_weight: Tensor, grad_bias: Tensor, grad: Tensor, x: Tensor) -> None:
    """Gradients of `y = x W^T + b` for `grad [n, M, P]` and `x [n, M, C]`."""
    grad, x = grad.flatten(0, 1), x.flatten(0, 1)
    grad_weight.addmm_(grad.mT, x)
    grad_bias.add_(grad.sum(0))


def _bytes_per_frame(patches: Tensor, maps: Maps) -> int:
    width = max(patches.shape[3], maps.w_iq.shape[0])
    return patches.shape[2] * width * maps.w_iq.element_size()
