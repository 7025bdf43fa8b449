"""Differential pooling with learned maps, and folding a last linear layer into them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .. import backends, cpu, reference
from .._checks import (
    autocast_on,
    no_autocast,
    require,
    require_floats,
    require_integers,
    require_tensors,
)
from .._interop import accepts_arrays
from .._lazy import lazy
from .._library import lib
from ..reference.numerics import acc_dtype
from ..reference.pooling import empty_outputs
from .common import EPS, differentiable, first_order_only, scalar
from .pooling import fake_grads, require_pool_shapes
from .product import product

OP = "projected_differential_pool"

backends.register(
    "projected_differential_pool",
    reference=reference.projected_differential_pool,
    cpu=cpu.projected_differential_pool,
    triton=lazy("triton.projected", "projected_differential_pool"),
)
backends.register(
    "projected_differential_pool_backward",
    reference=reference.projected_differential_pool_backward,
    cpu=cpu.projected_differential_pool_backward,
    triton=lazy("triton.projected_backward", "projected_differential_pool_backward"),
)


class Projection(NamedTuple):
    """The learned maps of `projected_differential_pool`, in the order of its arguments.

    Weights `w_iq`, `w_ik`, `w_k` `[P, C]` and `w_q [P, D]`, biases `[P]` or None. With
    `output_weight [E, C]` (and `output_bias [E]` or None) the patches are the inputs of a last
    linear layer, and the three maps of patches are `[P, E]`.
    """

    w_iq: Tensor
    b_iq: Tensor | None
    w_ik: Tensor
    b_ik: Tensor | None
    w_q: Tensor
    b_q: Tensor | None
    w_k: Tensor
    b_k: Tensor | None
    output_weight: Tensor | None = None
    output_bias: Tensor | None = None


@torch.library.register_fake("vilamp_kernels::projected_differential_pool", lib=lib)
def _fake(patches, queries, references, assignment, *rest):
    return empty_outputs(patches, queries.shape[1], rest[-1])


@torch.library.register_fake("vilamp_kernels::projected_differential_pool_backward", lib=lib)
def _fake_backward(grad_tokens, grad_weights, patches, queries, references, assignment, *rest):
    *maps_alpha_lam, _, wanted = rest
    return fake_grads((patches, queries, references, *maps_alpha_lam), wanted)


def _setup_context(ctx, inputs, output) -> None:
    *tensors, ctx.eps, _ = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad_tokens: Tensor, grad_weights: Tensor):
    needs = ctx.needs_input_grad
    wanted = [*needs[:3], *needs[4:14]]
    grads = _backward_op(grad_tokens, grad_weights, *ctx.saved_tensors, ctx.eps, wanted)
    given = [grad if want else None for grad, want in zip(grads, wanted, strict=True)]
    return *given[:3], None, *given[3:], None, None


_op = differentiable("projected_differential_pool", _backward, _setup_context)
_backward_op = first_order_only("projected_differential_pool_backward")


def cast_maps(maps: Projection, dtype: torch.dtype) -> Projection:
    """The maps in `dtype`."""
    return Projection(*(None if t is None else t.to(dtype) for t in maps))


def fold(maps: Projection) -> Projection:
    """The maps with the last linear layer folded into those of patches, in fp32 (fp64 for fp64);
    maps without such a layer as they are.

    `W (O x + o) + b = (W O) x + (W o + b)`, so the product with `O` is left out for all patches
    but one token. The layer itself stays in the result, to be applied to that token by `finish`.
    Differentiable; the cost is three products `[P, E] x [E, C]`.
    """
    if maps.output_weight is None:
        return maps
    acc = acc_dtype(maps.w_iq)
    wide = Projection(*(None if t is None else t.to(acc) for t in maps))

    def folded(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if wide.output_bias is not None:
            moved = product(weight, wide.output_bias[:, None])[:, 0]
            bias = moved if bias is None else bias + moved
        return product(weight, wide.output_weight), bias

    w_iq, b_iq = folded(wide.w_iq, wide.b_iq)
    w_ik, b_ik = folded(wide.w_ik, wide.b_ik)
    w_k, b_k = folded(wide.w_k, wide.b_k)
    return wide._replace(w_iq=w_iq, b_iq=b_iq, w_ik=w_ik, b_ik=b_ik, w_k=w_k, b_k=b_k)


def finish(tokens: Tensor, maps: Projection, dtype: torch.dtype) -> Tensor:
    """The last linear layer, if there is one, on pooled tokens `[..., C]`, rounded to `dtype`."""
    if maps.output_weight is not None:
        tokens = product(tokens, maps.output_weight.mT)
        if maps.output_bias is not None:
            tokens = tokens + maps.output_bias
    return tokens.to(dtype)


def require_maps(op: str, patches: Tensor, queries: Tensor, maps: Projection) -> None:
    """Shapes of the maps against the widths of the patches and queries."""
    given = {name: t for name, t in maps._asdict().items() if t is not None}
    p = maps.w_iq.shape[0] if maps.w_iq.ndim == 2 else -1
    c = patches.shape[-1]
    shapes = {"w_q": (p, queries.shape[-1])}
    if maps.output_weight is not None:
        e = maps.output_weight.shape[0] if maps.output_weight.ndim == 2 else -1
        shapes |= {"output_weight": (e, c), "output_bias": (e,)}
        c = e
    require(
        op,
        maps.output_weight is not None or maps.output_bias is None,
        "output_bias together with output_weight",
        output_bias=maps.output_bias,
    )
    shapes |= {name: (p, c) for name in ("w_iq", "w_ik", "w_k")}
    shapes |= {name: (p,) for name in ("b_iq", "b_ik", "b_q", "b_k")}
    for name, tensor in given.items():
        require(
            op,
            tuple(tensor.shape) == shapes[name],
            "w_iq, w_ik, w_k [P, C] (or [P, E] with output_weight [E, C]), w_q [P, D], biases [P]"
            " and output_bias [E]",
            patches=patches,
            queries=queries,
            **given,
        )


@accepts_arrays(OP)
def projected_differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    w_iq: Tensor,
    b_iq: Tensor | None,
    w_ik: Tensor,
    b_ik: Tensor | None,
    w_q: Tensor,
    b_q: Tensor | None,
    w_k: Tensor,
    b_k: Tensor | None,
    alpha: float | Tensor = 0.01,
    lam: float | Tensor = 1.0,
    *,
    output_weight: Tensor | None = None,
    output_bias: Tensor | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`differential_pool` with the cosines taken after learned maps.

    `s = (cos(W_q t, W_iq x) - lam cos(W_k key, W_ik x)) / alpha` with `t` the question; the token
    is a weighted mean of the patches `x` themselves. With `output_weight` the patches and the
    references are the inputs of a last linear layer: maps and token are those of its outputs, at
    the cost of its inputs (the weights of a mean sum to 1, so the layer can follow the pooling).

    Args:
        patches: `[B, N, M, C]` or `[N, M, C]`, fp64/fp32/fp16/bf16. All other floating tensors
            have the same dtype and device.
        queries: `[B, Q, D]` or `[Q, D]`.
        references: `[B, R, M, C]` or `[R, M, C]`; see `differential_pool`.
        assignment: integer `[B, Q, N]` or `[Q, N]`; see `differential_pool`.
        w_iq, w_ik, w_k: `[P, C]`, or `[P, E]` with `output_weight`.
        w_q: `[P, D]`.
        b_iq, b_ik, b_q, b_k: `[P]` or None.
        alpha, lam: floats or floating 0-d tensors (of any floating dtype); alpha is not 0.
        output_weight: `[E, C]`, the last linear layer of which patches are the inputs.
        output_bias: `[E]` or None.
        return_weights: also give the weights.
    Returns:
        Tokens `[B, Q, N, C]` (`[..., E]` with `output_weight`), without B if the patches have
        none, in the dtype of the patches; with `return_weights` the pair of them and the weights
        `[B, Q, N, M]` in fp32 (fp64 for fp64).
    Raises:
        ValueError: a shape, dtype or device disagrees; alpha is 0 or NaN or lam not finite, also
            once rounded to fp32 (fp64 for fp64), where they are floats: tensors are not looked at;
            on a CPU also an assignment outside -2..R-1 (elsewhere the nearest row is used).
    Gradients: all floating inputs, through both outputs, first order.
    Autocast: runs in the dtype of the patches; accumulates in fp32 or wider in any case.
    Source: Cheng et al. 2025, arXiv:2504.02438; the merging module of the released code.
    """
    maps = Projection(w_iq, b_iq, w_ik, b_ik, w_q, b_q, w_k, b_k, output_weight, output_bias)
    given = {name: t for name, t in maps._asdict().items() if t is not None}
    require_tensors(
        OP, patches=patches, queries=queries, references=references, assignment=assignment, **given
    )
    require_floats(OP, patches=patches, queries=queries, references=references, **given)
    require_integers(OP, assignment=assignment)
    require_pool_shapes(OP, patches, queries, references, assignment)
    require_maps(OP, patches, queries, maps)
    alpha, lam = scalar(OP, "alpha", alpha, patches), scalar(OP, "lam", lam, patches)
    if not autocast_on(patches.device):
        return pool_folded(
            patches, queries, references, assignment, fold(maps), alpha, lam, return_weights
        )
    dtype = patches.dtype
    with no_autocast(patches.device):
        return pool_folded(
            patches,
            queries.to(dtype),
            references.to(dtype),
            assignment,
            fold(cast_maps(maps, dtype)),
            alpha,
            lam,
            return_weights,
        )


def pool_folded(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    maps: Projection,
    alpha: Tensor,
    lam: Tensor,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The pooling with maps that went through `fold`, for checked arguments."""
    batched = patches.ndim == 4
    inputs = (patches, queries, references, assignment.to(torch.int64))
    if not batched:
        inputs = tuple(t[None] for t in inputs)
    zeros = maps.w_iq.new_zeros(maps.w_iq.shape[0])
    operands = (zeros if t is None else t for t in maps[:8])
    tokens, weights = _op(*inputs, *operands, alpha, lam, EPS, return_weights)
    if not batched:
        tokens, weights = tokens[0], weights[0]
    tokens = finish(tokens, maps, patches.dtype)
    return (tokens, weights) if return_weights else tokens
