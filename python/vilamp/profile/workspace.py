"""What ops hold only while they run, which no dispatched operation shows.

A fake kernel has only results. The pooling ops keep the cosines of a batch beside them: on a GPU at
most 16 bytes per patch and question (docs/gpu-kernels.md), on a CPU the two cosines in fp32 and a
few blocks of mapped patches.
"""

from __future__ import annotations

from vilamp_kernels.cpu.projected import BLOCK_BYTES

_POOLS = ("vilamp_kernels::differential_pool", "vilamp_kernels::projected_differential_pool")


def gpu(op: str, args: tuple) -> int:
    """Of the GPU kernels."""
    return 16 * _cosines(args) if op in _POOLS else 0


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
