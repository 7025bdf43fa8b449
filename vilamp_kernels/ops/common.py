"""What the registrations and public functions of several ops share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._checks import require, require_tensors
from .._library import lib
from ..reference.numerics import acc_dtype

EPS = 1e-8
"""Floor on each norm of a cosine."""


def in_fp32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in fp32, all in fp64 if one of them is: implementations take one dtype."""
    wide = any(t.dtype == torch.float64 for t in tensors)
    return tuple(t.to(torch.float64 if wide else torch.float32) for t in tensors)


def scalar(op: str, name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """A float or 0-d tensor as a 0-d tensor on the device of `like`. A tensor is not looked at,
    which on a GPU would mean waiting for it."""
    if not isinstance(value, Tensor):
        require(op, isinstance(value, (int, float, torch.SymFloat)), "a number", **{name: value})
        dtype = acc_dtype(like)
        if isinstance(value, (int, float)):
            require_usable(op, name, value, dtype)
        # A fill, not a copy: nothing waits for the device.
        return torch.full((), value, dtype=dtype, device=like.device)
    require_tensors(op, **{name: value, "patches": like})
    require(
        op,
        value.ndim == 0 and value.is_floating_point(),
        "a float or a floating 0-d tensor",
        **{name: value},
    )
    return value


def require_usable(op: str, name: str, value: float, dtype: torch.dtype) -> None:
    """ValueError for an alpha or lam that would make every weight NaN, also once it is rounded."""
    limits = torch.finfo(dtype)
    rounded = str(dtype).removeprefix("torch.")
    if name == "alpha":
        # An infinite alpha gives the plain mean.
        holds = abs(value) == math.inf or limits.smallest_normal <= abs(value) <= limits.max
        require(op, holds, f"an alpha that is neither 0 nor NaN in {rounded}", alpha=value)
    else:
        require(op, abs(value) <= limits.max, f"a {name} that is finite in {rounded}", lam=value)


def differentiable(op: str, backward: Callable, setup_context: Callable) -> Callable:
    """Register the gradient of `op`, and give the op as a function that torch.func can transform.

    The gradient that torch.library makes of these two functions is refused by torch.func, which
    wants an autograd.Function of the newer form; so where it is at work it gets one of those,
    and forward mode its refusal.
    """
    packet = getattr(torch.ops.vilamp_kernels, op)
    torch.library.register_autograd(
        f"vilamp_kernels::{op}", backward, setup_context=setup_context, lib=lib
    )
    members = {
        "forward": staticmethod(lambda *args: packet(*args)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "generate_vmap_rule": True,
    }
    transformed = type(op, (torch.autograd.Function,), members)

    def call(*args):
        if torch.compiler.is_compiling():
            return packet(*args)
        # Forward mode would go through the op without a word and lose the tangents.
        transforming = torch._C._are_functorch_transforms_active() or _forward_ad_is_on()
        return (transformed.apply if transforming else packet)(*args)

    return call


def _forward_ad_is_on() -> bool:
    return torch.autograd.forward_ad._current_level >= 0


def first_order_only(op: str) -> Callable:
    """Make a gradient of the backward op `op` an error instead of a silent zero; give the op."""

    def setup_context(ctx, inputs, output) -> None:
        return None

    def backward(ctx, *grads):
        raise RuntimeError(f"vilamp_kernels: {op} has no gradient: derivatives are first order")

    return differentiable(op, backward, setup_context)
