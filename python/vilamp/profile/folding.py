"""Work that is the same for every batch, run until two in a row agree and then only counted."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from .meter import Meter


@dataclass(frozen=True)
class _Seen:
    peak: int
    growth: int
    flops: int
    shape: torch.Size
    dtype: torch.dtype


class Folding:
    """Remembers what work took, across any number of meters.

    Args:
        on: False runs everything, which must give the same figures.
    """

    def __init__(self, on: bool = True):
        self.on = on
        self._last: dict[Hashable, _Seen] = {}
        self._settled: set[Hashable] = set()

    def run(self, meter: Meter, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        """The result of `work`, or, once two runs in a row agreed in peak, growth and products, an
        empty tensor in its place and their figures on the meter.

        Args:
            key: the same for work that is the same.
            work: depends on nothing but `key`, and leaves nothing behind but its result.
        """
        last = self._last.get(key)
        if self.on and key in self._settled:
            result = meter.empty(*last.shape, dtype=last.dtype)
            meter.add(meter.held - last.growth + last.peak, last.flops)
            return result
        outer, before = meter.now, meter.held
        inner = meter.start()
        result = work()
        meter.now = outer
        meter.add(inner.peak, inner.flops)
        growth = meter.held - before
        seen = _Seen(inner.peak - before, growth, inner.flops, result.shape, result.dtype)
        if seen == last and growth == result.numel() * result.element_size():
            self._settled.add(key)
        self._last[key] = seen
        return result
