"""Answers of operations that code decides by, where there are no numbers to compute them from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import vilamp_kernels as vk  # noqa: F401  (registers the ops)


def _one(tensor: Tensor) -> int | float | bool:
    """A number read from the device: the id of a token, a check."""
    return torch.ones((), dtype=tensor.dtype).item()


def _scores(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`[B, Q, N]`: every frame is as relevant as the next."""
    return torch.zeros(frames.shape[0], queries.shape[1], frames.shape[1])


def _evenly(frames: Tensor, scores: Tensor, k: int, *_: object) -> tuple[Tensor, Tensor]:
    """Keyframes `[B, Q, k]`: as many as may be taken, evenly spaced over the video."""
    b, q, n = scores.shape
    chosen = torch.arange(min(k, n)) * n // max(min(k, n), 1)
    return chosen.expand(b, q, -1).clone(), torch.full((b, q), len(chosen))


_ops = torch.ops.vilamp_kernels
CHOICES: dict[object, Callable] = {
    torch.ops.aten._local_scalar_dense.default: _one,
    _ops.similarity.default: _scores,
    _ops.select_keyframes.default: _evenly,
}
