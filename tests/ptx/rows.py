"""Lanes as rows of whole warps, for instructions that look across a warp."""

from __future__ import annotations

import numpy as np

from .operands import Lanes
from .stats import WARP

_ALL = np.ones((1, WARP), bool)


class Rows:
    """The warps that the lanes `L` belong to; `active` `[warps, 32]` (`[1, 32]` if `full`)."""

    def __init__(self, L: Lanes) -> None:
        self.full = isinstance(L, slice) and L.start % WARP == 0 and L.stop % WARP == 0
        if self.full:
            self.count = (L.stop - L.start) // WARP
            self.active = _ALL
            return
        lanes = np.arange(L.start, L.stop) if isinstance(L, slice) else L
        warps, self._row = np.unique(lanes >> 5, return_inverse=True)
        self._column = lanes & 31
        self.count = len(warps)
        self.active = np.zeros((self.count, WARP), bool)
        self.active[self._row, self._column] = True

    def gather(self, values: np.ndarray, fill=0) -> np.ndarray:
        """`[lanes]` -> `[warps, 32]`; lanes that do not run get `fill`."""
        if self.full:
            return values.reshape(self.count, WARP)
        out = np.full((self.count, WARP), fill, values.dtype)
        out[self._row, self._column] = values
        return out

    def gather_repeating(self, values: np.ndarray) -> np.ndarray:
        """As `gather`, but lanes that do not run repeat a value of their warp."""
        if self.full:
            return values.reshape(self.count, WARP)
        some = np.empty(self.count, values.dtype)
        some[self._row] = values
        out = np.repeat(some[:, None], WARP, axis=1)
        out[self._row, self._column] = values
        return out

    def scatter(self, rows: np.ndarray) -> np.ndarray:
        """`[warps, 32]` -> `[lanes]`."""
        if self.full:
            return rows.reshape(-1)
        return rows[self._row, self._column]
