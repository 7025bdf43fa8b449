"""What the registrations and public functions of several ops share."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import require, require_tensors
from .._library import lib
from ..reference.numerics import acc_dtype

EPS = 1e-8
"""Floor on each norm of a cosine."""


def cast(dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in `dtype`; fp64 stays as it is, as autocast has it."""
    return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def scalar(op: str, name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """A float or 0-d tensor as a 0-d tensor on the device of `like`."""
    if not isinstance(value, Tensor):
        require(op, isinstance(value, (int, float, torch.SymFloat)), "a number", **{name: value})
        # A fill, not a copy: nothing waits for the device.
        return torch.full((), value, dtype=acc_dtype(like), device=like.device)
    require_tensors(op, **{name: value, "patches": like})
    require(
        op,
        value.ndim == 0 and value.is_floating_point(),
        "a float or a floating 0-d tensor",
        **{name: value},
    )
    return value


def first_order_only(op: str) -> None:
    """Make a gradient of the backward op `op` an error instead of a silent zero."""

    def setup_context(ctx, inputs, output) -> None:
        return None

    def backward(ctx, *grads):
        raise RuntimeError(f"vilamp_kernels: {op} has no gradient: derivatives are first order")

    torch.library.register_autograd(
        f"vilamp_kernels::{op}", backward, setup_context=setup_context, lib=lib
    )
