"""A matrix product in full precision, whatever precision the process chose for its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends, reference
from .._library import lib

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
        torch.ops.vilamp_kernels._product(grad, b.mT) if need_a else None,
        torch.ops.vilamp_kernels._product(a.mT, grad) if need_b else None,
    )


torch.library.register_autograd(
    "vilamp_kernels::_product", _backward, setup_context=_setup_context, lib=lib
)


def product(a: Tensor, b: Tensor) -> Tensor:
    """`[..., m] x [m, n] -> [..., n]`; fp32 is neither TF32 on a GPU nor bf16 on a CPU."""
    flat = torch.ops.vilamp_kernels._product(a.reshape(-1, a.shape[-1]), b)
    return flat.view(*a.shape[:-1], b.shape[1])
