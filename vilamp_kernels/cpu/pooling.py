"""Launchers of `csrc/cpu/pooling.cpp`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..reference.numerics import acc_dtype
from ..reference.pooling import empty_outputs
from .module import DTYPES, address, load, unit_stride


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
    tensors = [unit_stride(t) for t in (patches, queries, references, assignment)]
    tokens, weights = empty_outputs(patches, queries.shape[1], return_weights)
    load().differential_pool(
        **_inputs(*tensors, alpha, lam, eps),
        tokens=address(tokens),
        weights=address(weights) if return_weights else None,
    )
    return tokens, weights


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
    out: tuple[Tensor, Tensor, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of patches, queries, references, alpha and lam; recomputes the forward.

    `out` are contiguous tensors for the first three, to write into instead of new ones.
    """
    acc = acc_dtype(patches)
    tensors = [unit_stride(t) for t in (patches, queries, references, assignment)]
    grads = [
        given if given is not None else t.new_empty(t.shape if want else 0)
        for given, t, want in zip(out or (None,) * 3, tensors, wanted, strict=False)
    ]
    grad_tokens = unit_stride(grad_tokens.to(acc))
    grad_weights = unit_stride(grad_weights.to(acc)) if grad_weights.numel() else None
    grad_patches, grad_queries, grad_references = (
        address(grad) if want else None for grad, want in zip(grads, wanted, strict=False)
    )
    scalars = load().differential_pool_backward(
        **_inputs(*tensors, alpha, lam, eps),
        grad_tokens=address(grad_tokens),
        grad_weights=None if grad_weights is None else address(grad_weights),
        grad_patches=grad_patches,
        grad_queries=grad_queries,
        grad_references=grad_references,
    )
    for value, given, want in zip(scalars, (alpha, lam), wanted[3:], strict=True):
        grads.append(given.new_full((), value) if want else given.new_empty(0))
    return tuple(grads)


def _inputs(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
) -> dict[str, Any]:
    """What forward and backward hand over alike."""
    return {
        "dtype": DTYPES[patches.dtype],
        "patches": address(patches),
        "queries": address(queries),
        "references": address(references),
        "assignment": address(assignment),
        "alpha": alpha.item(),
        "lam": lam.item(),
        "eps": eps,
        "threads": torch.get_num_threads(),
    }
