"""What all definitions share: accumulation dtype, unit vectors, the cosine and its gradient."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK_BYTES = 64 << 20
"""Aim for the size of one temporary: frames are pooled in chunks of about this many bytes."""


def acc_dtype(tensor: Tensor) -> torch.dtype:
    """fp64 for fp64, fp32 for everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


class Unit(NamedTuple):
    """Vectors over the last dimension, divided by their lengths, and those lengths."""

    rows: Tensor  # [..., D]
    norm: Tensor  # [...], at least eps

    @classmethod
    def of(cls, x: Tensor, eps: float) -> Unit:
        norm = torch.linalg.vector_norm(x, dim=-1).clamp_min(eps)
        return cls(x / norm.unsqueeze(-1), norm)


def cosine(a: Unit, b: Unit) -> Tensor:
    """Cosine of matching rows. Rows are divided before the product, as the published code does:
    at alpha = 0.01 the other order of roundings is a difference of 3e-5 in a token."""
    return (a.rows * b.rows).sum(-1)


def cosine_grad(grad: Tensor, cosine: Tensor, a: Unit, b: Unit, eps: float) -> Tensor:
    """Gradient of `cosine(a, b)` with respect to the vectors of `a`, before their division."""
    own = torch.where(a.norm > eps, cosine, 0).unsqueeze(-1) * a.rows  # a floor is a constant
    return (grad / a.norm).unsqueeze(-1) * (b.rows - own)


def chunks(frames: int, bytes_per_frame: int) -> Iterator[slice]:
    """Slices over `frames` frames whose temporaries stay near `CHUNK_BYTES`."""
    step = max(1, CHUNK_BYTES // max(1, bytes_per_frame))
    for start in range(0, frames, step):
        yield slice(start, min(start + step, frames))


_exact_lock = threading.Lock()
_exact_users = 0
_chosen_precision: list[str] = []


@contextmanager
def exact_matmul() -> Iterator[None]:
    """fp32 products are fp32: neither TF32 on a GPU nor bf16 on a CPU, whatever the process chose.

    A context, or a decorator as `@exact_matmul()`.
    A cosine that is off by 1e-3 becomes a weight that is off by 1e-1 at alpha = 0.01. The setting
    belongs to the process: the first thread to enter saves it, the last to leave restores it.
    """
    global _exact_users, _chosen_precision
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
    with _exact_lock:
        if _exact_users == 0:
            _chosen_precision = [backend.fp32_precision for backend in backends]
            for backend in backends:
                backend.fp32_precision = "ieee"
        _exact_users += 1
    try:
        yield
    finally:
        with _exact_lock:
            _exact_users -= 1
            if _exact_users == 0:
                for backend, precision in zip(backends, _chosen_precision, strict=True):
                    backend.fp32_precision = precision


@exact_matmul()
def product(a: Tensor, b: Tensor) -> Tensor:
    """`[m, k] x [k, n] -> [m, n]` without TF32 or bf16 inside."""
    return a @ b
