"""Launchers of `csrc/cpu/selection.cpp` and `csrc/cpu/reference_frames.cpp`."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reference.numerics import acc_dtype
from .module import DTYPES, address, load, unit_stride


def select_keyframes(
    frames: Tensor,
    scores: Tensor,
    k: int,
    tau: float,
    min_score: float | None,
    fill: bool,
    lengths: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """`frames [B, N, D]`, `scores [B, Q, N]` -> `indices [B, Q, k]` (-1 pads), `count [B, Q]`."""
    frames, scores = unit_stride(frames), unit_stride(scores.to(acc_dtype(frames)))
    lengths = None if lengths is None else lengths.to(torch.int64).contiguous()
    indices = scores.new_empty((*scores.shape[:2], k), dtype=torch.int64)
    count = scores.new_empty(scores.shape[:2], dtype=torch.int64)
    load().select_keyframes(
        dtype=DTYPES[frames.dtype],
        frames=address(frames),
        scores=address(scores),
        lengths=None if lengths is None else address(lengths),
        indices=address(indices),
        count=address(count),
        tau=tau,
        min_score=min_score,
        fill=fill,
        eps=eps,
        threads=torch.get_num_threads(),
    )
    return indices, count


def reference_frames(indices: Tensor, n: int, policy: str) -> Tensor:
    """`indices [B, Q, K]` -> for each of `n` frames the frame it is compared with, or -1."""
    rows = indices.to(torch.int64).flatten(0, -2).contiguous()
    out = rows.new_empty((*indices.shape[:-1], n))
    load().reference_frames(
        indices=address(rows), out=address(out.view(rows.shape[0], n)), policy=policy
    )
    return out


def fill_keyframes(mask: Tensor, k: int) -> Tensor:
    """Bool `[..., N]` -> the same with `min(N, k)` ones; a mask with `k` or more is unchanged."""
    rows = unit_stride(mask.flatten(0, -2) if mask.ndim > 1 else mask[None])
    out = mask.new_empty(mask.shape)
    load().fill_keyframes(mask=address(rows), out=address(out.view(rows.shape)), k=k)
    return out
