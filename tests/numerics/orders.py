"""torch's matrix products and sums on a CPU, in orders that other processors may take.

Every library adds the terms of a sum in an order of its own, which depends on the processor, the
shape and the number of threads. These orders stand for those that are not at hand. They replace
the kernels inside torch, so that autograd, the model and the reference all use them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Matrices = Callable[[np.ndarray, np.ndarray], np.ndarray]
Sums = Callable[[np.ndarray], np.ndarray]


def _permutation(terms: int, *places: int) -> np.ndarray:
    """Depends on all that a library may choose a kernel by."""
    return np.random.default_rng([terms, *places]).permutation(terms)


def _alignment(x: np.ndarray) -> int:
    """MKL sums in another order where a vector does not begin at a multiple of 64 bytes."""
    return x.ctypes.data % 64


def _permuted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    places = a.shape[-2], b.shape[-1], _alignment(a), _alignment(b)
    order = _permutation(a.shape[-1], *places)
    return a[..., order] @ b[..., order, :]


def _sum_permuted(x: np.ndarray) -> np.ndarray:
    return x[..., _permutation(x.shape[-1], x.size, _alignment(x))].sum(-1)


def _sequential(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One term after the other; product and sum are rounded each, as without fused operations."""
    total = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total += a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total


def _sum_sequential(x: np.ndarray) -> np.ndarray:
    return np.add.accumulate(x, -1)[..., -1]


def _in_blocks(size: int) -> tuple[Matrices, Sums]:
    """Sums of `size` terms each, joined in turn from the last to the first."""

    def starts(terms: int) -> range:
        return range((terms - 1) // size * size, -1, -size)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        parts = (a[..., i : i + size] @ b[..., i : i + size, :] for i in starts(a.shape[-1]))
        return _joined(parts)

    def total(x: np.ndarray) -> np.ndarray:
        return _joined(x[..., i : i + size].sum(-1) for i in starts(x.shape[-1]))

    return product, total


def _joined(parts) -> np.ndarray:
    total = next(parts)
    for part in parts:
        total = total + part
    return total


ORDERS: dict[str, tuple[Matrices, Sums]] = {
    "permuted": (_permuted, _sum_permuted),
    "sequential": (_sequential, _sum_sequential),
    "blocks-of-4": _in_blocks(4),
    "blocks-of-48": _in_blocks(48),
}


def use_order(name: str) -> torch.library.Library:
    """Let torch sum in the order `name` on the CPU, as long as what is returned is kept.

    Numbers of bf16 and fp16 are summed in fp32 and rounded once.
    """
    multiply, add_up = ORDERS[name]
    replaced = torch.library.Library("aten", "IMPL")

    def product(a: Tensor, b: Tensor) -> Tensor:
        """Of the last two dimensions, in the wide type."""
        shape = (*a.shape[:-1], b.shape[-1])
        if 0 in shape or a.shape[-1] == 0:
            return torch.zeros(shape, dtype=_wide(a.dtype))
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.ascontiguousarray(multiply(_array(a), _array(b))))

    def total(x: Tensor, axes: list[int] | None, keep: bool) -> Tensor:
        axes = range(x.ndim) if not axes else [axis % x.ndim for axis in axes] if x.ndim else []
        left = [axis for axis in range(x.ndim) if axis not in axes]
        count = math.prod(x.shape[axis] for axis in axes)
        rows = x.permute([*left, *axes]).reshape([*(x.shape[axis] for axis in left), count])
        if 0 in rows.shape:
            out = torch.zeros(rows.shape[:-1], dtype=_wide(x.dtype))
        else:
            with np.errstate(all="ignore"):
                out = torch.from_numpy(np.array(add_up(_array(rows))))
        shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
        return out.reshape(shape) if keep else out

    def mm(a, b):
        return product(a, b).to(a.dtype)

    def mv(a, b):
        return product(a, b[:, None])[:, 0].to(a.dtype)

    def dot(a, b):
        return product(a[None], b[:, None])[0, 0].to(a.dtype)

    def addmm(start, a, b, *, beta=1, alpha=1):
        out = product(a, b) * alpha
        return (out if beta == 0 else out + beta * start.to(out.dtype)).to(a.dtype)

    def addmm_(start, a, b, *, beta=1, alpha=1):
        return start.copy_(addmm(start, a, b, beta=beta, alpha=alpha))

    def addmv(start, a, b, *, beta=1, alpha=1):
        return addmm(start, a, b[:, None], beta=beta, alpha=alpha)[:, 0]

    def sum_dim(x, dim, keepdim=False, *, dtype=None):
        kind = dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)
        return total(x.to(kind), dim, keepdim).to(kind)

    def sum_all(x, *, dtype=None):
        return sum_dim(x, None, dtype=dtype)

    def mean_dim(x, dim, keepdim=False, *, dtype=None):
        x = x if dtype is None else x.to(dtype)
        out = total(x, dim, keepdim)
        return (out / (x.numel() / max(out.numel(), 1))).to(x.dtype)

    def norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
        x = x if dtype is None else x.to(dtype)
        if ord != 2:
            raise NotImplementedError(f"a norm of order {ord} in another order of summation")
        wide = x.to(_wide(x.dtype))
        return total(wide * wide, dim, keepdim).sqrt().to(x.dtype)

    def convolution(x, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
        if transposed or groups != 1 or x.ndim != 4:
            raise NotImplementedError("only plain convolutions of pictures")
        # One number stands for both axes.
        stride, padding, dilation = (
            [*given, *given][:2] if len(given) == 1 else given
            for given in (stride, padding, dilation)
        )
        columns = torch.nn.functional.unfold(
            x.to(_wide(x.dtype)), weight.shape[2:], dilation, padding, stride
        )
        out = product(weight.flatten(1).to(columns.dtype).expand(len(x), -1, -1), columns)
        if bias is not None:
            out = out + bias.to(out.dtype)[:, None]
        sizes = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip(
                x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
            )
        ]
        return out.reshape(len(x), -1, *sizes).to(x.dtype)

    def attention(q, k, v, dropout_p=0.0, is_causal=False, *, attn_mask=None, scale=None):
        # Heads of the query in groups, each group with one head of keys and values.
        k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
        logits = product(q, k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            outside = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
            logits = logits.masked_fill(outside, -torch.inf)
        if attn_mask is not None:
            logits = logits + attn_mask
        return product(logits.softmax(-1), v).to(q.dtype), logits.logsumexp(-1)

    kernels = {
        "mm": mm,
        "bmm": mm,
        "mv": mv,
        "dot": dot,
        "addmm": addmm,
        "addmm_": addmm_,
        "baddbmm": addmm,
        "baddbmm_": addmm_,
        "addmv": addmv,
        "sum": sum_all,
        "sum.dim_IntList": sum_dim,
        "mean.dim": mean_dim,
        "linalg_vector_norm": norm,
        "convolution": convolution,
        "_scaled_dot_product_flash_attention_for_cpu": attention,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kernel, function in kernels.items():
            replaced.impl(kernel, function, "CPU")
    return replaced


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _array(x: Tensor) -> np.ndarray:
    return x.detach().to(_wide(x.dtype)).numpy()
