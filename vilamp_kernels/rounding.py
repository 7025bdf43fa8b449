"""How far fp32 may be from the truth: a formula in fp64 with the roundings of fp32 put in.

A rounding error is the size of what is rounded, times how often, times how much the result depends
on it. The first two are known for each step of a formula; the third is found by trying: the formula
runs in fp64 several times, each time with random errors of the right size in every step (Monte
Carlo arithmetic). The distance from the run without errors says what any sound fp32 form may lose,
whatever library, processor or order of summation; no fp32 kernel takes part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from types import FunctionType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

RUNS = 4
"""Runs with errors: enough to know their mean square within a factor of two."""

# Steps that move, choose or make numbers, and round none.
_EXACT = """
abs alias amax amin arange argmax argmin argsort as_strided cat clamp clamp_max clamp_min clone
constant_pad_nd contiguous copy_ detach embedding empty empty_like empty_strided expand eye fill
fill_ flip full full_like gather index index_put_ index_select isfinite isnan lift lift_fresh
masked_fill max maximum min minimum neg new_empty new_empty_strided new_full new_ones new_zeros
ones ones_like permute randn relu repeat roll scalar_tensor select_backward sign slice_backward
sort split stack tril triu topk unbind where zero_ zeros zeros_like _local_scalar_dense _to_copy
_unsafe_view _reshape_copy
"""
EXACT = frozenset(_EXACT.split())

# The two factors of a product among its arguments.
PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1)}
PRODUCTS |= {"addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2)}


class Truth(NamedTuple):
    """A result in fp64, and how far the roundings of a type move each of its elements."""

    ref: Tensor
    spread: Tensor


def truth_of(formula: Callable[[], object], dtype: torch.dtype = torch.float32) -> list[Truth]:
    """What `formula()` gives, a tensor or several, with the spread of computing it in `dtype`.

    `formula` computes in fp64. It is run once for the same code and the same captured values: the
    backends of a test share it.
    """
    key = (dtype, _contents(formula))
    if key not in _known:
        if len(_known) >= 256:
            _known.pop(next(iter(_known)))
        # fp64 has no wider type to be the truth, and no half of its rounding to multiply by.
        unit = torch.finfo(dtype).eps / (1 if dtype == torch.float64 else 2)
        _known[key] = _computed(formula, unit)
    return _known[key]


_known: dict[tuple, list[Truth]] = {}


def _contents(value: object) -> object:
    """The code of a function and what it captured, tensors by their elements: a key of a dict."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        return tuple(value.shape), value.dtype, sha256(plain.numpy()).hexdigest()
    if isinstance(value, np.ndarray):
        return _contents(torch.from_numpy(value.copy()))
    if isinstance(value, list | tuple):
        return tuple(map(_contents, value))
    if isinstance(value, dict):
        return tuple((name, _contents(item)) for name, item in value.items())
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return value.__code__, _contents(value.__defaults__), _contents(cells)
    return value


def _computed(formula: Callable[[], object], unit: float) -> list[Truth]:
    refs = _tuple(formula())
    squares = [torch.zeros_like(ref) for ref in refs]
    for seed in range(RUNS):
        with Roundings(unit, seed):
            moved = _tuple(formula())
        for square, near, ref in zip(squares, moved, refs, strict=True):
            square += (near - ref).square()
    return [Truth(ref, (s / RUNS).sqrt()) for ref, s in zip(refs, squares, strict=True)]


class Roundings(TorchDispatchMode):
    """Gives every step a random error as large as its roundings, each of `unit` of a number.

    A sum of n terms t, added up in an order of no regard to their signs, passes through sums whose
    mean square is below s^2 + the sum of t^2, s being the result; so the n roundings of these come
    to sqrt(n) `unit` times the root of it (Higham and Mary 2019: roundings add up like random
    numbers). Any order that a library takes is one of these: one by one, in blocks or in a tree.
    """

    def __init__(self, unit: float, seed: int):
        super().__init__()
        self.unit = unit
        self.place = seed + 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if func.namespace == "vilamp_kernels":
            from .backends import IMPLS

            with self:
                return IMPLS[name]["reference"](*args, **kwargs)
        if name in _IN_STEPS:
            with self:
                return _IN_STEPS[name](*args, **kwargs)
        if func.is_view or name in EXACT:
            return func(*args, **kwargs)
        # Inside an op autograd is off, and what consists of several steps arrives as one.
        with self:
            steps = func.decompose(*args, **kwargs)
        if steps is not NotImplemented:
            return steps
        if not any(isinstance(a, Tensor) and a.is_floating_point() for a in args):
            return func(*args, **kwargs)
        terms = _terms_of_sum(name, args, kwargs)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or not out.is_floating_point():
            return out
        if terms is None:
            factors = self._row(out, _row_of_factors(out.device, out.dtype, self.unit))
            return out.mul_(factors) if name.endswith("_") else out * factors
        count, squares = terms
        size = (count * (out.square() + squares)).sqrt()
        # Infinity less infinity would be NaN.
        error = (self._row(out, _row_of_signs(out.device, out.dtype)) * size).nan_to_num(0, 0, 0)
        return (out if name.endswith("_") else out.clone()).add_(error, alpha=self.unit)

    def _row(self, like: Tensor, numbers: Tensor) -> Tensor:
        """As many of the random numbers, from a place of their own in the long row of them."""
        count = like.numel()
        self.place = (self.place * 48271 + 11) % 2147483647
        if count > len(numbers) // 2:
            numbers = numbers.repeat(2 * count // len(numbers) + 2)
        start = self.place % (len(numbers) - count)
        return numbers[start : start + count].view(like.shape)


@cache
def _row_of_signs(device: torch.device, dtype: torch.dtype) -> Tensor:
    # A prime length, so that rows of a repeated one do not fall in step.
    bits = torch.randint(0, 2, (1_000_003,), generator=torch.Generator().manual_seed(0))
    return (bits * 2 - 1).to(device, dtype)


@cache
def _row_of_factors(device: torch.device, dtype: torch.dtype, unit: float) -> Tensor:
    return 1 + unit * _row_of_signs(device, dtype)


def _terms_of_sum(name: str, args: tuple, kwargs: dict) -> tuple[int, Tensor] | None:
    """How many terms each sum of a step has, and the sum of their squares; None for other steps.

    Taken before an operation in place changes its terms.
    """
    plain = name.removesuffix("_")
    if plain in PRODUCTS:
        first, second = (args[i].square() for i in PRODUCTS[plain])
        squares = first @ second
        if plain.startswith(("add", "badd")):
            squares = squares + args[0].square()
        return first.shape[-1] + 1, squares
    if plain == "convolution":
        x, weight, bias, *rest = args
        bias = None if bias is None else bias.square()
        squares = torch.convolution(x.square(), weight.square(), bias, *rest)
        return weight[0].numel() + 1, squares
    if plain == "index_add":
        to, dim, index, rows = args
        return len(index) + 1, to.square().index_add(dim, index, rows.square())
    if plain == "cumsum":
        return args[0].shape[args[1]], torch.cumsum(args[0].square(), *args[1:], **kwargs)
    if plain in ("sum", "mean"):
        squares = torch.sum(args[0].square(), *args[1:], **kwargs)
        terms = args[0].numel() // max(squares.numel(), 1)
        return terms, squares / terms**2 if plain == "mean" else squares
    if plain == "linalg_vector_norm":
        norm = torch.ops.aten.linalg_vector_norm(*args, **kwargs)
        # Half the error of the sum of squares, and the root's.
        return 1 + args[0].numel() // max(4 * norm.numel(), 1), 0 * norm
    return None


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    shifted = (x - x.amax(dim, keepdim=True)).exp()
    return shifted / shifted.sum(dim, keepdim=True)


def _layer_norm(x: Tensor, shape: list[int], weight: Tensor, bias: Tensor, eps: float):
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    apart = x - mean
    scale = ((apart * apart).mean(axes, keepdim=True) + eps).rsqrt()
    out = apart * scale
    out = out if weight is None else out * weight
    return out if bias is None else out + bias, mean, scale


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    # Heads of the query in groups, each group with one head of keys and values.
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        outside = torch.ones(logits.shape[-2:], dtype=torch.bool, device=query.device).triu(1)
        logits = logits.masked_fill(outside, -torch.inf)
    if attn_mask is not None:
        logits = logits + attn_mask
    return logits.softmax(-1) @ value, logits.logsumexp(-1)


# Operations of several steps, each of which rounds.
_IN_STEPS = {
    "_softmax": _softmax,
    "native_layer_norm": _layer_norm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
}


def _tuple(outputs: object) -> tuple[Tensor, ...]:
    outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
    return tuple(t.detach() for t in outputs)
