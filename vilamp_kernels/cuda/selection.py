"""Launcher of `csrc/cuda/selection.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from ..reference.selection import fill_chosen
from .inputs import DTYPES, VECTOR, aligned, ceil_div, round_up, unit_stride
from .launch import chip, launch, resident_blocks

THREADS = 256
RUN = 8  # neighbouring frames of a warp
WARPS = THREADS // 32


def taken_bytes(d: int, element_size: int) -> int:
    """Shared memory for one frame in fp32, in the layout of `spread` in `types.cuh`."""
    elements = round_up(d, VECTOR // element_size)
    if element_size == 4:
        return 4 * elements
    return 4 * (round_up(elements // 2, 32) + 16 + elements // 2)


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
    """`frames [B, N, D]`, `scores [B, Q, N]` -> `indices [B, Q, k]` (-1 pads), `count [B, Q]`.

    Frames wider than shared memory (from 24,000 on) are left to the reference.
    """
    b, n, d = frames.shape
    questions = scores.shape[1]
    rounds = min(k, n)
    indices = frames.new_empty((b, questions, k), dtype=torch.int64)
    count = frames.new_zeros((b, questions), dtype=torch.int64)
    if count.numel() == 0 or rounds == 0:
        return indices.fill_(-1), count
    shared = taken_bytes(d, frames.element_size())
    # The kernel has static shared memory too, less than 1 KB.
    if shared + 1024 > chip(frames.device).shared_per_block:
        return reference.select_keyframes(frames, scores, k, tau, min_score, fill, lengths, eps)
    frames, scores = unit_stride(frames), unit_stride(scores.to(torch.float32))
    lengths = None if lengths is None else lengths.to(torch.int64).contiguous()

    kernel = f"select_keyframes_fwd_{DTYPES[frames.dtype]}"
    pairs = b * questions
    resident = resident_blocks(kernel, THREADS, shared, frames.device)
    # Blocks of one group wait for each other, so no more of them than have frames to read; what is
    # left of the device works on other questions and videos.
    blocks = min(resident, ceil_div(n, RUN * WARPS))
    groups = min(pairs, resident // blocks)
    launch(
        kernel,
        groups * blocks,
        THREADS,
        frames,
        *frames.stride()[:2],
        scores,
        *scores.stride()[:2],
        lengths,
        frames.new_empty((pairs, n), dtype=torch.int64),
        # The greatest key of each round, and the number of blocks that came to a barrier.
        frames.new_zeros((pairs, rounds + 1), dtype=torch.int64),
        indices,
        count,
        n,
        d,
        k,
        rounds,
        questions,
        pairs,
        blocks,
        int(aligned(frames)),
        int(min_score is not None),
        float(min_score or 0.0),
        float(tau),
        float(eps),
        shared=shared,
        cooperative=True,
    )
    return fill_chosen(indices, n, lengths) if fill else (indices, count)
