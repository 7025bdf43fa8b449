"""What all definitions share: accumulation dtype, floored norms, the cosine and its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20
"""Aim for the size of one temporary: frames are pooled in chunks of about this many bytes."""


def acc_dtype(tensor: Tensor) -> torch.dtype:
    """fp64 for fp64, fp32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def norm(x: Tensor, eps: float) -> Tensor:
    """Euclidean norm over the last dimension, at least `eps`."""
    return torch.linalg.vector_norm(x, dim=-1).clamp_min(eps)


def cosine_grads(
    grad: Tensor, cosine: Tensor, a: Tensor, b: Tensor, norm_a: Tensor, norm_b: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Gradients of `cosine = a.b / (norm_a norm_b)` for rows `a` and `b` of the same shape.

    A norm on its floor is a constant, so its own term is left out there.
    """
    cross = (grad / (norm_a * norm_b)).unsqueeze(-1)
    return (
        cross * b - own_term(grad, cosine, norm_a, eps).unsqueeze(-1) * a,
        cross * a - own_term(grad, cosine, norm_b, eps).unsqueeze(-1) * b,
    )


def own_term(grad: Tensor, cosine: Tensor, norm_a: Tensor, eps: float) -> Tensor:
    """Factor of `-a` in the gradient of the cosine with respect to `a`."""
    return torch.where(norm_a > eps, grad * cosine / norm_a.square(), 0)


def chunks(frames: int, bytes_per_frame: int) -> Iterator[slice]:
    """Slices over `frames` frames whose temporaries stay near `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_frame))
    for start in range(0, frames, step):
        yield slice(start, min(start + step, frames))


@contextmanager
def exact_matmul() -> Iterator[None]:
    """fp32 products in fp32: neither TF32 on a GPU nor bf16 on a CPU, whatever the process chose.

    A cosine that is off by 1e-3 becomes a weight that is off by 1e-1 at alpha = 0.01.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def product(a: Tensor, b: Tensor) -> Tensor:
    """`[m, k] x [k, n] -> [m, n]` without TF32 or bf16 inside."""
    with exact_matmul():
        return a @ b
