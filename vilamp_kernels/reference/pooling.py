"""Differential pooling: one token per frame, a weighted mean of its patches.

Patches are visited in chunks of frames, so that a call on a long video needs its input, its output
and a few tens of megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from .numerics import Unit, acc_dtype, chunks, cosine, cosine_grad, exact_matmul


class Keys(NamedTuple):
    """The reference patches of a chunk of frames, and where they came from."""

    patches: Tensor  # [n, M, C], the frame's own where it has no reference
    present: Tensor  # [n] bool, the frame has a reference
    itself: Tensor  # [n] bool, the reference is the frame itself
    rows: Tensor  # [n] int64, row of the bank; any row where it is not taken from the bank


def gather_keys(x: Tensor, bank: Tensor, assignment: Tensor) -> Keys:
    """Reference patches for the frames `x [n, M, C]` from `bank [R, M, C]`."""
    present, itself = assignment != -1, assignment == -2
    if bank.shape[0] == 0:
        return Keys(x, itself, itself, torch.zeros_like(assignment))
    rows = assignment.clamp(0, bank.shape[0] - 1)
    # No row of the bank stands in where there is no reference: a NaN in it would reach gradients.
    from_bank = (present & ~itself).view(-1, 1, 1)
    return Keys(torch.where(from_bank, bank[rows].to(x.dtype), x), present, itself, rows)


def check_assignment(op: str, assignment: Tensor, rows: int) -> None:
    """Reject rows outside the bank. Only on a CPU: elsewhere looking would stop the device."""
    if assignment.device.type != "cpu" or assignment.numel() == 0:
        return
    low, high = assignment.min().item(), assignment.max().item()
    if low < -2 or high >= rows:
        raise ValueError(
            f"{op}: wanted assignment in -2..{rows - 1}; given values from {low} to {high}"
        )


def cosine_with_keys(x: Unit, key: Unit, keys: Keys) -> Tensor:
    """Cosines `[n, M]` of patches with their reference patches, 0 where there are none."""
    return torch.where(keys.present[:, None], cosine(x, key), 0)


def softmax_of(
    cos_query: Tensor, cos_key: Tensor, alpha: Tensor, lam: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits and weights `[n, M]` from the two cosines."""
    logits = (cos_query - lam * cos_key) / alpha
    return logits, logits.softmax(-1)


def softmax_grads(
    x: Tensor, weights: Tensor, grad_token: Tensor, grad_weights: Tensor | None
) -> Tensor:
    """Gradient of the logits `[n, M]` for `token = sum over m of weights x`."""
    grad = torch.einsum("nmc,nc->nm", x, grad_token)
    if grad_weights is not None:
        grad = grad + grad_weights
    return weights * (grad - (weights * grad).sum(-1, keepdim=True))


def scalar_grads(
    grad_logits: Tensor, logits: Tensor, cos_key: Tensor, alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of alpha and lam."""
    return -(grad_logits * logits).sum() / alpha, -(grad_logits * cos_key).sum() / alpha


def pieces(patches: Tensor, bytes_per_frame: int) -> Iterator[tuple[int, slice]]:
    """Video number and frame range of each chunk of `patches [B, N, M, C]`."""
    for video in range(patches.shape[0]):
        for frames in chunks(patches.shape[1], bytes_per_frame):
            yield video, frames


@exact_matmul()
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
    """See `_library.py` for the shapes."""
    check_assignment("differential_pool", assignment, references.shape[1])
    acc = acc_dtype(patches)
    alpha, lam = alpha.to(acc), lam.to(acc)
    tokens, weights = empty_outputs(patches, queries.shape[1], return_weights)
    for video, frames in pieces(patches, _bytes_per_frame(patches)):
        x = patches[video, frames].to(acc)
        unit_x = Unit.of(x, eps)
        for question in range(queries.shape[1]):
            query = Unit.of(queries[video, question].to(acc), eps)
            keys = gather_keys(x, references[video], assignment[video, question, frames])
            key = Unit.of(keys.patches, eps)
            cos_query, cos_key = cosine(unit_x, query), cosine_with_keys(unit_x, key, keys)
            _, w = softmax_of(cos_query, cos_key, alpha, lam)
            tokens[video, question, frames] = weighted_sum(w, x)
            if return_weights:
                weights[video, question, frames] = w
    return tokens, weights


@exact_matmul()
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
    """Gradients of patches, queries, references, alpha and lam; recomputes the forward."""
    acc = acc_dtype(patches)
    inputs = (patches, queries, references, alpha, lam)
    alpha, lam = alpha.to(acc), lam.to(acc)
    grads = empty_grads(inputs, wanted)
    grad_patches, grad_queries, grad_references, grad_alpha, grad_lam = grads
    for video, frames in pieces(patches, _bytes_per_frame(patches)):
        x = patches[video, frames].to(acc)
        unit_x = Unit.of(x, eps)
        grad_x = torch.zeros_like(x)
        for question in range(queries.shape[1]):
            query = Unit.of(queries[video, question].to(acc), eps)
            keys = gather_keys(x, references[video], assignment[video, question, frames])
            key = Unit.of(keys.patches, eps)
            cos_query, cos_key = cosine(unit_x, query), cosine_with_keys(unit_x, key, keys)
            logits, w = softmax_of(cos_query, cos_key, alpha, lam)

            grad_token = grad_tokens[video, question, frames]
            grad_w = grad_weights[video, question, frames] if grad_weights.numel() else None
            grad_logits = softmax_grads(x, w, grad_token, grad_w)
            part_alpha, part_lam = scalar_grads(grad_logits, logits, cos_key, alpha)
            grad_alpha += part_alpha
            grad_lam += part_lam

            grad_query = grad_logits / alpha  # of the cosine with the query
            from_query = cosine_grad(grad_query, cos_query, unit_x, query, eps)
            grad_query = cosine_grad(grad_query, cos_query, query, unit_x, eps)

            grad_key = torch.where(keys.present[:, None], -lam * grad_logits / alpha, 0)
            from_key = cosine_grad(grad_key, cos_key, unit_x, key, eps)
            grad_key = cosine_grad(grad_key, cos_key, key, unit_x, eps)

            grad_x += w.unsqueeze(-1) * grad_token.unsqueeze(-2) + from_query + from_key
            grad_x += torch.where(keys.itself.view(-1, 1, 1), grad_key, 0)
            grad_queries[video, question] += grad_query.sum((0, 1))
            add_to_bank(grad_references, video, keys, grad_key)
        if wanted[0]:
            grad_patches[video, frames] = grad_x
    return only_wanted(grads, inputs, wanted)


def empty_outputs(patches: Tensor, questions: int, return_weights: bool) -> tuple[Tensor, Tensor]:
    """Tokens `[B, Q, N, C]` and weights `[B, Q, N, M or 0]` in the accumulation dtype."""
    b, n, m, c = patches.shape
    acc = acc_dtype(patches)
    return (
        patches.new_empty((b, questions, n, c), dtype=acc),
        patches.new_empty((b, questions, n, m if return_weights else 0), dtype=acc),
    )


def weighted_sum(weights: Tensor, x: Tensor) -> Tensor:
    """`sum over m of weights[n, m] x[n, m]`."""
    return (weights.unsqueeze(-2) @ x).squeeze(-2)


def empty_grads(inputs: tuple[Tensor, ...], wanted: list[bool]) -> list[Tensor]:
    """Where the gradients of a pooling op are gathered: inputs are patches, queries, references
    and others. Those of patches are written once, in their dtype; all others are sums."""
    patches, _, references = inputs[:3]
    acc = acc_dtype(patches)
    grads = [t.new_zeros(t.shape, dtype=acc) for t in (*inputs[1:2], *inputs[3:])]
    bank = references.new_zeros(references.shape if wanted[2] else 0, dtype=acc)
    return [patches.new_empty(patches.shape if wanted[0] else 0), grads[0], bank, *grads[1:]]


def add_to_bank(grad_banks: Tensor, video: int, keys: Keys, grad_key: Tensor) -> None:
    """Add the gradients of the reference patches to the rows that they came from."""
    if grad_banks.numel() > 0:
        from_bank = (keys.present & ~keys.itself).view(-1, 1, 1)
        grad_banks[video].index_add_(0, keys.rows, torch.where(from_bank, grad_key, 0))


def only_wanted(
    grads: list[Tensor], inputs: tuple[Tensor, ...], wanted: list[bool]
) -> tuple[Tensor, ...]:
    """The wanted gradients in the dtypes of their inputs; an empty tensor for each other."""
    return tuple(
        grad.to(given.dtype) if want else given.new_empty(0)
        for grad, given, want in zip(grads, inputs, wanted, strict=True)
    )


def _bytes_per_frame(patches: Tensor) -> int:
    return patches.shape[2] * patches.shape[3] * (8 if patches.dtype == torch.float64 else 4)
