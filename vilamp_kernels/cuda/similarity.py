"""Launcher of `csrc/cuda/similarity.cu`."""

from __future__ import annotations

import torch
from torch import Tensor

from .inputs import DTYPES, aligned, ceil_div, unit_stride
from .launch import launch, resident_blocks

THREADS = 128
TILE = 16  # frames of a block at a time
QUESTIONS = (1, 4, 16)  # that a kernel serves with one read of the frames


def similarity(frames: Tensor, queries: Tensor, eps: float) -> Tensor:
    """`frames [B, N, D]`, `queries [B, Q, D]`, fp32/bf16/fp16 -> `[B, Q, N]` fp32."""
    b, n, d = frames.shape
    questions = queries.shape[1]
    out = frames.new_empty((b, questions, n), dtype=torch.float32)
    if out.numel() == 0:
        return out
    frames, queries = unit_stride(frames), unit_stride(queries)
    served = next((q for q in QUESTIONS if q >= questions), QUESTIONS[-1])
    kernel = f"similarity_fwd_q{served}_{DTYPES[frames.dtype]}"
    # A block reads the queries once and walks over many frames: just enough blocks for the device.
    groups = b * ceil_div(questions, served)
    blocks = ceil_div(resident_blocks(kernel, THREADS, 0, frames.device), groups)
    blocks = min(blocks, ceil_div(n, TILE))
    launch(
        kernel,
        groups * blocks,
        THREADS,
        frames,
        *frames.stride()[:2],
        queries,
        *queries.stride()[:2],
        out,
        n,
        d,
        questions,
        blocks,
        int(aligned(frames)),
        float(eps),
    )
    return out
