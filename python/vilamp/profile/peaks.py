"""Counters of the most memory that was in use since they were last asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch


class Peaks(Protocol):
    """One way of looking at memory."""

    def take(self) -> dict[str, int]:
        """Most bytes by kind since the last call; counting begins anew."""


class CudaPeaks:
    """Of torch's allocator: `allocated` in tensors, `reserved` from the device for them.

    Neither has the CUDA context, or what libraries take past the allocator.

    Args:
        device: a CUDA device.
        counters: `torch.cuda`.
    """

    def __init__(self, device: torch.device, counters: ModuleType | Any = torch.cuda):
        self._device, self._counters = device, counters

    def take(self) -> dict[str, int]:
        found = {
            "allocated": self._counters.max_memory_allocated(self._device),
            "reserved": self._counters.max_memory_reserved(self._device),
        }
        self._counters.reset_peak_memory_stats(self._device)
        return found


class ResidentPeaks:
    """`resident`: memory of this process that is in RAM, Python and libraries included.

    Linux keeps the greatest value and forgets it when told to. Where it cannot, the value is the
    greatest since the process began, so that a phase never shows less than an earlier one.
    """

    _STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self) -> None:
        try:
            self._status: int | None = os.open(self._STATUS, os.O_RDONLY)
            self._clear: int | None = os.open(self._CLEAR, os.O_WRONLY)
        except OSError:
            self._status = self._clear = None

    def take(self) -> dict[str, int]:
        if self._status is None:
            return {"resident": _peak_of_the_process()}
        text = os.pread(self._status, 8192, 0)
        os.pwrite(self._clear, b"5", 0)
        return {"resident": _field(text, b"VmHWM:")}

    def now(self) -> int:
        """Bytes in RAM at this moment."""
        if self._status is None:
            return _peak_of_the_process()
        return _field(os.pread(self._status, 8192, 0), b"VmRSS:")

    def close(self) -> None:
        """Close its files."""
        for file in (self._status, self._clear):
            if file is not None:
                os.close(file)
        self._status = self._clear = None


def _field(text: bytes, name: bytes) -> int:
    line = text[text.index(name) + len(name) :].split(b"\n", 1)[0]
    return 1024 * int(line.split()[0])


def _peak_of_the_process() -> int:
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
