"""Launcher of `csrc/cuda/pooling.cu`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import reference
from ..reference.pooling import empty_outputs
from .inputs import DTYPES, VECTOR, aligned, ceil_div, round_up, unit_stride
from .launch import chip, launch, resident_blocks

WARP = 32
SHARED = 72 << 10
"""Bytes of shared memory that a block takes if two stages fit: two blocks on an A100 processor."""


@dataclass(frozen=True)
class Variant:
    """One compiled form of the kernel."""

    questions: int  # served by one read of the patches
    vectors: int  # of 16 bytes, that a thread owns
    threads: int  # at most
    patches: int  # at a time
    sums: int  # exchanged between the warps of a block
    dtypes: tuple[str, ...] = ("fp32", "bf16", "fp16")


VARIANTS = (
    Variant(1, 1, 256, patches=2, sums=8),
    Variant(1, 2, 256, patches=2, sums=8),
    Variant(1, 4, 384, patches=2, sums=8),
    Variant(4, 1, 256, patches=1, sums=16),
    Variant(4, 2, 256, patches=1, sums=16),
    Variant(4, 4, 256, patches=1, sums=16, dtypes=("fp32",)),
)


@dataclass(frozen=True)
class Plan:
    """A variant and the sizes of its blocks."""

    variant: Variant
    threads: int
    stages: int
    shared: int  # bytes


@functools.cache
def plan(c: int, questions: int, dtype: str, room: int) -> Plan | None:
    """How to pool patches of width `c` with `room` bytes of shared memory; None if no way fits."""
    vectors = ceil_div(c, 4 if dtype == "fp32" else 8)
    for served in (4, 1) if questions > 1 else (1,):
        for variant in VARIANTS:
            threads = round_up(ceil_div(vectors, variant.vectors), WARP)
            fits = threads <= variant.threads and dtype in variant.dtypes
            if variant.questions != served or not fits:
                continue
            stage = variant.patches * (1 + served) * vectors * VECTOR
            exchange = 2 * threads // WARP * variant.sums * 4
            stages = min(max(SHARED // stage, 2), 4, (room - exchange) // stage)
            if stages >= 1:
                return Plan(variant, threads, stages, stages * stage + exchange)
    return None


@functools.cache
def parts_of(blocks: int, m: int, resident: int, step: int) -> tuple[int, int]:
    """Into how many parts to cut the `m` patches of each frame, and the patches of each part.

    A block costs as much as its patches and about six more, for its beginning and for what it
    hands on; blocks run in waves of as many as are resident.
    """
    best = None
    for parts in range(1, min(32, ceil_div(m, 16)) + 1):
        rows = round_up(ceil_div(m, parts), step)
        parts = ceil_div(m, rows)
        cost = ceil_div(blocks * parts, resident) * (rows + 6)
        if best is None or cost < best[0]:
            best = (cost, parts, rows)
    return best[1:]


def differential_pool(
    patches: Tensor,
    queries: Tensor,
    references: Tensor,
    assignment: Tensor,
    alpha: Tensor,
    lam: Tensor,
    eps: float,
    return_weights: bool,
) -> tuple[Tensor, Tensor]:
    """See `_library.py` for the shapes. fp32, bf16 and fp16.

    Patches wider than any variant (12,288, fp32 6,144) and frames without patches are left to the
    reference.
    """
    b, n, m, c = patches.shape
    questions = queries.shape[1]
    dtype, device = DTYPES[patches.dtype], patches.device
    found = plan(c, questions, dtype, chip(device).shared_per_block) if c and m else None
    if found is None:
        return reference.differential_pool(
            patches, queries, references, assignment, alpha, lam, eps, return_weights
        )
    tokens, weights = empty_outputs(patches, questions, return_weights)
    if tokens.numel() == 0:
        return tokens, weights
    variant = found.variant
    kernel = f"differential_pool_fwd_q{variant.questions}_j{variant.vectors}_{dtype}"
    blocks = b * n * ceil_div(questions, variant.questions)
    resident = resident_blocks(kernel, found.threads, found.shared, device)
    parts, rows = parts_of(blocks, m, resident, variant.patches)
    # Weights need the maximum over all patches, so the second kernel finishes them.
    combined = parts > 1 or return_weights
    pieces = patches.new_empty((b, questions, n, parts, c) if combined else 0, dtype=torch.float32)
    statistics = patches.new_empty((*pieces.shape[:-1], 2), dtype=torch.float32)
    given = [unit_stride(t) for t in (patches, queries, references)]
    launch(
        kernel,
        blocks * parts,
        found.threads,
        *(arg for t in given for arg in (t, *t.stride()[:-1])),
        assignment.to(torch.int64).contiguous(),
        alpha.to(torch.float32),
        lam.to(torch.float32),
        tokens,
        pieces if combined else None,
        statistics if combined else None,
        weights if return_weights else None,
        n,
        m,
        c,
        questions,
        references.shape[1],
        parts,
        rows,
        found.stages,
        int(aligned(*given)),
        float(eps),
        shared=found.shared,
    )
    if combined:
        launch(
            "differential_pool_combine_fp32",
            b * questions * n,
            256,
            pieces,
            statistics,
            tokens,
            weights if return_weights else None,
            parts,
            c,
            m,
        )
    return tokens, weights
