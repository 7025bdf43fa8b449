"""What a section runs on: the device, its backends, sizes for a real or a dry run, the clock."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

import vilamp_kernels as vk
from bench.gpu_floors import CHIPS, Chip
from vilamp_kernels.backends import IMPLS

GPU_BACKENDS = ("cuda", "triton")
LAUNCH_CYCLES = 10_000_000
"""Five milliseconds at 2 GHz, meant to be longer than any op takes to launch."""


@dataclass(frozen=True)
class Machine:
    """Device and backends. A dry run is on the CPU, small, to test the checks themselves."""

    device: torch.device
    dry: bool

    @property
    def name(self) -> str:
        return "dry run on the CPU" if self.dry else torch.cuda.get_device_name(self.device)

    @property
    def chip(self) -> Chip | None:
        """The published rates of this device, if they are known."""
        if self.dry:
            return CHIPS[0]
        return next((chip for chip in CHIPS if re.search(chip.model, self.name)), None)

    def backends(self, op: str) -> list[str]:
        """The GPU backends that have `op` here; on a dry run also that of the CPU."""
        wanted = (*GPU_BACKENDS, "cpu") if self.dry else GPU_BACKENDS
        found = vk.available_backends()
        return [name for name in wanted if found[name].available and name in IMPLS[op]]

    def milliseconds(self, call: Callable[[], object], *, budget: float = 0.3) -> float:
        """Median of single calls, each from a cache that was flushed."""
        call()
        first = self._once(call, None)
        count = max(3, min(50, int(1e3 * budget / max(first, 1e-3))))
        flush = None if self.dry else torch.empty(256 << 20, dtype=torch.uint8, device=self.device)
        return statistics.median(self._once(call, flush) for _ in range(count))

    def _once(self, call: Callable[[], object], flush: torch.Tensor | None) -> float:
        if flush is not None:
            flush.zero_()
        if self.dry:
            start = time.perf_counter()
            call()
            return 1e3 * (time.perf_counter() - start)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # The GPU waits here until the host has launched everything: its launches are not timed.
        torch.cuda._sleep(LAUNCH_CYCLES)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
