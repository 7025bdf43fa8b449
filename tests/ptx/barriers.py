"""Barriers of blocks: who waits where, and when they may go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import PtxError
from .operands import Lanes, Write

if TYPE_CHECKING:
    from .cohort import Cohort

NONE = -1


class Barriers:
    """`barrier` of each lane: the number of the barrier at which it waits, or NONE."""

    def __init__(self, cohort: Cohort) -> None:
        self.m = cohort
        self.barrier = np.full(len(cohort.lanes), NONE)
        self._counts: dict[int, int] = {}
        self._reductions: list[tuple[str, Write, np.ndarray, np.ndarray]] = []

    def arrive(self, L: Lanes, number: int, count: int | None) -> None:
        if count is None:
            self._counts.pop(number, None)
        else:
            self._counts[number] = count
            self.m.races.on = False
        self.barrier[L] = number
        self.m.ready[L] = False

    def reduce(self, L: Lanes, kind: str, write: Write, values: np.ndarray) -> None:
        """Note a value that becomes part of what all threads of the block get."""
        self._reductions.append((kind, write, self.m.lanes[L], values))

    def release(self) -> bool:
        """Let go every barrier at which all have arrived; whether there was one."""
        m = self.m
        if not self._counts:
            waiting = m.alive & (self.barrier == 0)
            if np.array_equal(waiting, m.alive):
                self._go(waiting)
                return True
        released = False
        for block in range(m.blocks):
            alive = m.alive & (m.block == block)
            numbers = set(self.barrier[alive].tolist())
            for number in sorted(numbers - {NONE}):
                waiting = alive & (self.barrier == number)
                wanted = self._counts.get(number)
                if wanted is None and len(numbers) > 1:
                    continue
                if wanted is not None and np.count_nonzero(waiting) < wanted:
                    continue
                self._go(waiting)
                released = True
        return released

    def _go(self, who: np.ndarray) -> None:
        self._finish_reductions(who)
        self.barrier[who] = NONE
        self.m.ready[who] = True
        self.m.races.passed(who)

    def _finish_reductions(self, who: np.ndarray) -> None:
        if not self._reductions:
            return
        kept = []
        for block in np.unique(self.m.block[who]):
            mine = [r for r in self._reductions if self._is_in(r[2], who, block)]
            if not mine:
                continue
            values = np.concatenate([v[self.m.block[lanes] == block] for _, _, lanes, v in mine])
            for kind, write, lanes, _ in mine:
                result = {"and": values.all, "or": values.any, "popc": values.sum}[kind]()
                inside = lanes[self.m.block[lanes] == block]
                write(self.m, inside, np.full(len(inside), result))
        for reduction in self._reductions:
            if not who[reduction[2]].all():
                kept.append(reduction)
        self._reductions = kept

    def _is_in(self, lanes: np.ndarray, who: np.ndarray, block: int) -> bool:
        return bool((who[lanes] & (self.m.block[lanes] == block)).any())

    def deadlock(self) -> str:
        numbers = sorted(set(self.barrier[self.m.alive].tolist()))
        return f"threads wait at different barriers {numbers}: deadlock"


def barrier_number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise PtxError(f"barrier {text}: only constant numbers are known") from None
