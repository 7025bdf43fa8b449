"""Finds accesses to shared memory that no barrier orders, whatever the order they ran in.

Between two barriers of a block, no warp may read what another wrote, nor write what another read.
(Two warps that write the same place are let be: compilers store copies of one value.) Atomics are
ordered by themselves and are not looked at; neither are kernels with barriers for part of a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .operands import Lanes
from .parse import Function, Vector, space_of
from .stats import WARP
from .types import width

if TYPE_CHECKING:
    from .cohort import Cohort

SEVERAL = -2


def unit_of(function: Function) -> int:
    """Bytes of the smallest access to shared memory: as many are kept track of together."""
    sizes = [16]
    for step in function.code:
        if step.op[0] in ("ld", "st") and space_of(step) in ("shared", None):
            value = step.operands[0 if step.op[0] == "ld" else 1]
            count = len(value.items) if isinstance(value, Vector) else 1
            sizes.append(count * max(width(step.type) // 8, 1))
        elif step.op[:2] == ("cp", "async") and len(step.operands) > 2:
            sizes.append(int(step.operands[2].text, 0))
    return min(sizes)


class Races:
    """By unit of shared memory: the warp that wrote or read it last, and between which barriers."""

    def __init__(self, cohort: Cohort, size: int) -> None:
        self.m = cohort
        self.epoch = np.zeros(len(cohort.lanes), np.int32)
        self.on = cohort.state.race_unit > 0 and cohort.warps > 1
        self._unit = cohort.state.race_unit
        units = size // self._unit if self.on else 0
        self._written = np.full(units, -1, np.int32)
        self._writer = np.zeros(units, np.int16)
        self._read = np.full(units, -1, np.int32)
        self._reader = np.zeros(units, np.int16)
        self._warp = (cohort.thread // WARP).astype(np.int16)

    def _units(self, index: np.ndarray, n: int, L: Lanes) -> tuple[np.ndarray, ...]:
        """Units of the elements, and for each the warp and the epoch of its lane."""
        warp, epoch = self._warp[L], self.epoch[L]
        per = n // self._unit
        if per == 1:
            return index, warp, epoch
        units = (index[:, None] * per + np.arange(per)).reshape(-1)
        return units, np.repeat(warp, per), np.repeat(epoch, per)

    def read(self, index: np.ndarray, n: int, L: Lanes, what: str) -> None:
        """`index`: elements of `n` bytes in the memory of the cohort."""
        if not self.on:
            return
        units, warp, epoch = self._units(index, n, L)
        if ((self._written[units] == epoch) & (self._writer[units] != warp)).any():
            raise PtxError(f"race: reads what another warp wrote since the last barrier: {what}")
        other = (self._read[units] == epoch) & (self._reader[units] != warp)
        self._read[units] = epoch
        self._reader[units] = np.where(other, SEVERAL, warp)

    def write(self, index: np.ndarray, n: int, L: Lanes, what: str) -> None:
        if not self.on:
            return
        units, warp, epoch = self._units(index, n, L)
        if ((self._read[units] == epoch) & (self._reader[units] != warp)).any():
            raise PtxError(f"race: writes what another warp read since the last barrier: {what}")
        self._written[units] = epoch
        self._writer[units] = warp

    def passed(self, who: np.ndarray) -> None:
        """Lanes that went through a barrier of their whole block."""
        self.epoch[who] += 1
