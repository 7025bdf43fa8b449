"""What ops hold only while they run, which no dispatched operation shows.

A fake kernel has only results. The pooling ops keep the cosines of a batch beside them: on a GPU at
most 16 bytes per patch and question (docs/gpu-kernels.md), on a CPU the two cosines in fp32 and a
few blocks of mapped patches. With learned maps a GPU also holds the mapped references, in fp32, and
fp32 maps of bf16 patches once more in parts that its tensor cores take.
"""

from __future__ import annotations

import torch

from vilamp_kernels.cpu.projected import BLOCK_BYTES

_POOLS = ("vilamp_kernels::differential_pool", "vilamp_kernels::projected_differential_pool")
BANK_BYTES = 512 << 20
"""Most that the Triton kernels take for mapped references of several frames, by its launcher."""
BF16_PARTS = 3
"""Of an fp32 map beside bf16 patches. A copy, as the other: the launchers import Triton."""


def gpu(op: str, args: tuple) -> int:
    """Of the GPU kernels."""
    if op not in _POOLS:
        return 0
    held = 16 * _cosines(args)
    if op == _POOLS[0]:
        return held
    patches, queries, references, maps = args[0], args[1], args[2], args[4]
    (b, n, m, _), (p, c) = patches.shape, maps.shape
    parts = splitting = 0
    if maps.dtype != patches.dtype:
        bf16 = patches.dtype == torch.bfloat16
        parts = 3 * p * c * (BF16_PARTS * 2 if bf16 else 4 if maps.dtype != torch.float32 else 0)
        # What is left of a map while its parts are taken off, twice.
        splitting = 2 * p * c * 4 if bf16 else 0
    frame = b * m * p * 4
    bank = frame * min(references.shape[1], queries.shape[1] * n)
    return parts + max(splitting, held + min(bank, max(BANK_BYTES, queries.shape[1] * frame)))


def cpu(op: str, args: tuple) -> int:
    """Of the C++ kernels."""
    if op not in _POOLS:
        return 0
    blocks = 0
    if op == _POOLS[1]:
        patches, queries, maps = args[0], args[1], args[4]
        # Mapped patches, the mapped reference of each question, and patches in the wider type.
        held = 1 + queries.shape[1] + (patches.dtype != maps.dtype)
        rows = patches.shape[2] * max(patches.shape[3], maps.shape[0])
        blocks = held * min(BLOCK_BYTES, rows * maps.element_size())
    return 8 * _cosines(args) + blocks


def _cosines(args: tuple) -> int:
    b, n, m, _ = args[0].shape
    return b * n * m * args[1].shape[1]
