"""Launchers of `csrc/cpu/similarity.cpp`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.numerics import acc_dtype
from .module import DTYPES, address, load, unit_stride


def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, N, D]` and `[B, Q, D]` on the CPU -> `[B, Q, N]`."""
    frames, queries = unit_stride(frames), unit_stride(queries)
    shape = (frames.shape[0], queries.shape[1], frames.shape[1])
    out = frames.new_empty(shape, dtype=acc_dtype(frames))
    load().similarity(
        dtype=DTYPES[frames.dtype],
        frames=address(frames),
        queries=address(queries),
        out=address(out),
        eps=eps,
        threads=torch.get_num_threads(),
    )
    return out


def similarity_backward(
    grad: Tensor, frames: Tensor, queries: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`grad [B, Q, N]` -> gradients of frames and queries, in their dtypes."""
    grad = unit_stride(grad.to(acc_dtype(frames)))
    frames, queries = unit_stride(frames), unit_stride(queries)
    grads = frames.new_empty(frames.shape), queries.new_empty(queries.shape)
    load().similarity_backward(
        dtype=DTYPES[frames.dtype],
        grad=address(grad),
        frames=address(frames),
        queries=address(queries),
        grad_frames=address(grads[0]),
        grad_queries=address(grads[1]),
        eps=eps,
        threads=torch.get_num_threads(),
    )
    return grads
