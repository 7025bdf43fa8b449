"""Asynchronous copies to shared memory: they land when they are waited for, no sooner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .operands import Lanes

if TYPE_CHECKING:
    from .cohort import Cohort


@dataclass
class Copy:
    """What one instruction asked for: `where` (index of elements) gets `data`, by lane."""

    lanes: np.ndarray
    group: np.ndarray
    where: np.ndarray
    data: np.ndarray
    text: str


class Copies:
    """Copies on their way. Groups are counted for each lane."""

    def __init__(self, cohort: Cohort) -> None:
        self.m = cohort
        self._committed = np.zeros(len(cohort.lanes), np.int64)
        self._pending: list[Copy] = []

    def start(self, L: Lanes, where: np.ndarray, data: np.ndarray, text: str) -> None:
        """Until it has landed, the destination holds NaN: too early a read or issue shows."""
        poison = np.frombuffer(b"\xff" * data.itemsize, data.dtype)[0]
        self.m.races.write(where, data.itemsize, L, text)
        self.m.shared[data.itemsize][where] = poison
        lanes = self.m.lanes[L]
        self._pending.append(Copy(lanes, self._committed[lanes], where, data, text))

    def commit(self, L: Lanes) -> None:
        self._committed[L] += 1

    def wait(self, L: Lanes, keep: int) -> None:
        """Land all groups of these lanes but the last `keep`."""
        if not self._pending:
            return
        landed = np.full(len(self.m.lanes), -1, np.int64)
        landed[L] = self._committed[L] - keep
        still = []
        for copy in self._pending:
            now = copy.group < landed[copy.lanes]
            count = int(np.count_nonzero(now))
            if count:
                where, data = copy.where[now], copy.data[now]
                self.m.races.write(where, data.itemsize, copy.lanes[now], copy.text)
                self.m.shared[data.itemsize][where] = data
            if count < len(now):
                rest = ~now if count else slice(None)
                parts = (x[rest] for x in (copy.lanes, copy.group, copy.where, copy.data))
                still.append(Copy(*parts, copy.text))
        self._pending = still

    def wait_all(self, L: Lanes) -> None:
        self.commit(L)
        self.wait(L, 0)
