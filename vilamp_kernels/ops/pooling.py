"""Differential pooling of patches into one token per frame."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends, cpu, reference
from .._checks import autocast_on, require, require_floats, require_integers, require_tensors
from .._interop import accepts_arrays
from .._lazy import lazy
from .._library import lib
from ..reference.pooling import empty_outputs
from .common import EPS, differentiable, first_order_only, scalar

OP = "differential_pool"

backends.register(
    "differential_pool",
    reference=reference.differential_pool,
    cpu=cpu.differential_pool,
    triton=lazy("triton.pooling", "differential_pool"),
    cuda=lazy("cuda.pooling", "differential_pool"),
)
backends.register(
    "differential_pool_backward",
    reference=reference.differential_pool_backward,
    cpu=cpu.differential_pool_backward,
    triton=lazy("triton.pooling_backward", "differential_pool_backward"),
)


def fake_grads(inputs: tuple[Tensor, ...], wanted: list[bool]) -> tuple[Tensor, ...]:
    """Gradients without values: an empty tensor for each that is not wanted."""
    return tuple(
        t.new_empty(t.shape if want else 0) for t, want in zip(inputs, wanted, strict=True)
    )


@torch.library.register_fake("vilamp_kernels::differential_pool", lib=lib)
def _fake(patches, queries, references, assignment, alpha, lam, eps, return_weights):
    return empty_outputs(patches, queries.shape[1], return_weights)


@torch.library.register_fake("vilamp_kernels::differential_pool_backward", lib=lib)
def _fake_backward(
    grad_tokens,
    grad_weights,
    patches,
    queries,
    references,
    assignment,
    alpha,
    lam,
    eps,
    wanted,
):
    return fake_grads((patches, queries, references, alpha, lam), wanted)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.eps, _ = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_tokens: Tensor, grad_weights: Tensor):
    needs = ctx.needs_input_grad
    wanted = [*needs[:3], *needs[4:6]]
    grads = _backward_op(grad_tokens, grad_weights, *ctx.saved_tensors, ctx.eps, wanted)
    given = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
    return *given[:3], None, *given[3:], None, None


_op = differentiable("differential_pool", _backward, _setup_context)
_backward_op = first_order_only("differential_pool_backward")


def require_pool_shapes(
    op: str, patches: Tensor, queries: Tensor, references: Tensor, assignment: Tensor
) -> None:
    """The shapes that both pooling ops share; the width of the queries is left to the caller."""
    b = patches.ndim - 3
    require(
        op,
        b in (0, 1)
        and queries.ndim == 2 + b
        and references.ndim == 3 + b
        and assignment.ndim == 2 + b
        and queries.shape[:b] == patches.shape[:b]
        and references.shape[:b] == patches.shape[:b]
        and references.shape[-2:] == patches.shape[-2:]
        and assignment.shape[:b] == patches.shape[:b]
        and assignment.shape[-2] == queries.shape[-2]
        and assignment.shape[-1] == patches.shape[-3],
        "patches [B, N, M, C], queries [B, Q, ...], references [B, R, M, C] and assignment"
        " [B, Q, N] with one B, or all without B",
        patches=patches,
        queries=queries,
        references=references,
        assignment=assignment,
    )


@accepts_arrays(OP)
def differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: float | Tensor = 0.01,
    lam: float | Tensor = 1.0,
    *,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """One token per frame: the mean of its patches, weighted towards those that matter to the
    question and differ from the reference frame.

    For frame n and patch m, `s = (cos(x, q) - lam cos(x, key)) / alpha` with `key` the same patch
    of the assigned reference frame (no such term when there is none); `w = softmax over m of s`;
    `token = sum over m of w x`.

    Args:
        patches: `[B, N, M, C]` or `[N, M, C]`, fp64/fp32/fp16/bf16.
        queries: `[B, Q, C]` or `[Q, C]`, same dtype and device as `patches`.
        references: bank of reference frames `[B, R, M, C]` or `[R, M, C]`, same dtype and device;
            may be `patches` itself, and may have no rows.
        assignment: integer `[B, Q, N]` or `[Q, N]`: row of the bank, -1 for no reference, -2 for
            the frame itself.
        alpha: temperature of the softmax, a float or a floating 0-d tensor, not 0.
        lam: weight of the redundancy term, a float or a floating 0-d tensor.
        return_weights: also give the weights.
    Returns:
        Tokens `[B, Q, N, C]` or `[Q, N, C]` in the dtype of the patches; with `return_weights`
        the pair of them and the weights `[B, Q, N, M]` or `[Q, N, M]` in fp32 (fp64 for fp64).
    Raises:
        ValueError: a shape, dtype or device disagrees; alpha is 0 or NaN or lam not finite, also
            once rounded to fp32 (fp64 for fp64), where they are floats: tensors are not looked at;
            on a CPU also an assignment outside -2..R-1 (elsewhere the nearest row is used).
    Gradients: patches, queries, references, alpha, lam, through both outputs, first order.
    Autocast: runs in the dtype of the patches; accumulates in fp32 or wider in any case.
    Source: Cheng et al. 2025, arXiv:2504.02438, differential feature merging.
    """
    require_tensors(
        OP, patches=patches, queries=queries, references=references, assignment=assignment
    )
    require_floats(OP, patches=patches, queries=queries, references=references)
    require_integers(OP, assignment=assignment)
    require_pool_shapes(OP, patches, queries, references, assignment)
    require(
        OP,
        queries.shape[-1] == patches.shape[-1],
        "queries and patches of one width C",
        patches=patches,
        queries=queries,
    )
    alpha, lam = scalar(OP, "alpha", alpha, patches), scalar(OP, "lam", lam, patches)
    dtype, batched = patches.dtype, patches.ndim == 4
    if autocast_on(patches.device):
        queries, references = queries.to(dtype), references.to(dtype)
    inputs = (patches, queries, references, assignment.to(torch.int64))
    if not batched:
        inputs = tuple(t[None] for t in inputs)
    tokens, weights = _op(*inputs, alpha, lam, EPS, return_weights)
    if not batched:
        tokens, weights = tokens[0], weights[0]
    tokens = tokens.to(dtype)
    return (tokens, weights) if return_weights else tokens
