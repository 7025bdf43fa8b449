"""Cosine similarity of frames with queries."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import backends, cpu, reference
from .._checks import autocast_on, require, require_floats, require_tensors
from .._interop import accepts_arrays
from .._lazy import lazy
from .._library import lib
from ..reference.numerics import acc_dtype
from .common import EPS, differentiable, first_order_only, in_fp32

OP = "similarity"

backends.register(
    "similarity",
    reference=reference.similarity,
    cpu=cpu.similarity,
    triton=lazy("triton.similarity", "similarity"),
    cuda=lazy("cuda.similarity", "similarity"),
)
backends.register(
    "similarity_backward",
    reference=reference.similarity_backward,
    cpu=cpu.similarity_backward,
    triton=lazy("triton.similarity", "similarity_backward"),
)


@torch.library.register_fake("vilamp_kernels::similarity", lib=lib)
def _fake(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    shape = (frames.shape[0], queries.shape[1], frames.shape[1])
    return frames.new_empty(shape, dtype=acc_dtype(frames))


@torch.library.register_fake("vilamp_kernels::similarity_backward", lib=lib)
def _fake_backward(
    grad: Tensor, frames: Tensor, queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return frames.new_empty(frames.shape), queries.new_empty(queries.shape)


def _setup_context(ctx, inputs, output) -> None:
    frames, queries, ctx.eps = inputs
    ctx.save_for_backward(frames, queries)


def _backward(ctx, grad: Tensor):
    frames, queries = ctx.saved_tensors
    grads = _backward_op(grad, frames, queries, ctx.eps)
    return *grads, None


_op = differentiable("similarity", _backward, _setup_context)
_backward_op = first_order_only("similarity_backward")


@accepts_arrays(OP)
def similarity(frames: Tensor, queries: Tensor) -> Tensor:
    """Cosine similarity of every frame with every query.

    Args:
        frames: `[B, N, D]` or `[N, D]`, fp64/fp32/fp16/bf16; any strides, copied only if the last
            is not 1.
        queries: `[B, Q, D]` or `[Q, D]`, same dtype and device as `frames`.
    Returns:
        `[B, Q, N]` or `[Q, N]` in fp32 (fp64 for fp64), dimensionless, in [-1, 1] up to rounding;
        a zero vector scores 0.
    Raises:
        ValueError: a shape, dtype or device disagrees; the message names the op, the wanted and
            the given.
    Gradients: `frames` and `queries`, first order. Deterministic on every backend.
    Autocast: runs in fp32, in fp64 if either is.
    Source: Cheng et al. 2025, arXiv:2504.02438, frame relevance R_f.
    """
    require_tensors(OP, frames=frames, queries=queries)
    require_floats(OP, frames=frames, queries=queries)
    require(
        OP,
        frames.ndim == queries.ndim
        and frames.ndim in (2, 3)
        and frames.shape[-1] == queries.shape[-1]
        and frames.shape[:-2] == queries.shape[:-2],
        "frames [B, N, D] and queries [B, Q, D] with one B and D, or both without B",
        frames=frames,
        queries=queries,
    )
    if autocast_on(frames.device):
        frames, queries = in_fp32(frames, queries)
    if frames.ndim == 2:
        return _op(frames[None], queries[None], EPS)[0]
    return _op(frames, queries, EPS)
