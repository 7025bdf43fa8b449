"""What a GPU has left, and a limit for what this process takes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

HEADROOM = 0.05
"""Of what is free, left to others: the figure is from before they take more."""


def available(device: torch.device, weights: int) -> int | None:
    """Bytes of a GPU for a model that is on it already and for its work; None for other devices.

    Args:
        device: of the model.
        weights: bytes of the model.
    """
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What the allocator keeps for later is ours too.
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return weights + int((1 - HEADROOM) * (free + unused))


@contextmanager
def enforced(device: torch.device, budget: int | None) -> Iterator[None]:
    """Let torch take no more than `budget` bytes of a GPU: beyond it a call fails as on a smaller
    card. Nothing happens for other devices. The limit of before is back afterwards."""
    if budget is None or device.type != "cuda":
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    before = torch.cuda.get_per_process_memory_fraction(device)
    # Blocks that are kept for later count as taken.
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(before, budget / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before, device)
