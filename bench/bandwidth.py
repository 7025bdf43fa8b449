"""Read bandwidth of this machine: what the times of memory-bound ops are a share of.

The best of `torch.sum` and of the library's own streaming read, when the C++ module has one, over
a gibibyte, with all threads. Measured in the same run as the ops, since it differs between
machines and between days.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

BYTES = 1 << 30


def readers() -> dict[str, Callable[[Tensor], object]]:
    """Ways of reading every byte of a tensor once."""
    found: dict[str, Callable[[Tensor], object]] = {"torch.sum": torch.sum}
    with suppress(ImportError, AttributeError):
        found["stream_read"] = importlib.import_module("vilamp_kernels.cpu").stream_read
    return found


class ReadBandwidth:
    """The best seen so far, in GB/s; each `look` measures again."""

    def __init__(self, size: int = BYTES) -> None:
        # Written, so that the pages exist: reading untouched pages reads one page of zeros.
        self._data = torch.ones(size // 4)
        self.best: dict[str, float] = {name: 0.0 for name in readers()}

    def look(self, rounds: int = 5) -> float:
        for _ in range(rounds):
            for name, read in readers().items():
                start = time.perf_counter()
                read(self._data)
                seconds = time.perf_counter() - start
                rate = 4 * self._data.numel() / seconds / 1e9
                self.best[name] = max(self.best[name], rate)
        return self.gb_per_s

    @property
    def gb_per_s(self) -> float:
        return max(self.best.values())
