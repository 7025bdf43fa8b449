"""A matrix product in full precision, whatever precision the process chose for its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends, reference
from .._library import lib
from .common import differentiable

# A building block of the public ops rather than one of them: torch computes it for all backends.
backends.register("_product", **dict.fromkeys(backends.NAMES, reference.product))


@torch.library.register_fake("vilamp_kernels::_product", lib=lib)
def _fake(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty((a.shape[0], b.shape[1]))


def _setup_context(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):
    a, b = ctx.saved_tensors
    need_a, need_b = ctx.needs_input_grad
    return (
        _op(grad, b.mT) if need_a else None,
        _op(a.mT, grad) if need_b else None,
    )


_op = differentiable("_product", _backward, _setup_context)


def product(a: Tensor, b: Tensor) -> Tensor:
    """`[..., m] x [m, n] -> [..., n]`; fp32 is neither TF32 on a GPU nor bf16 on a CPU."""
    flat = _op(a.reshape(-1, a.shape[-1]), b)
    return flat.view(*a.shape[:-1], b.shape[1])
