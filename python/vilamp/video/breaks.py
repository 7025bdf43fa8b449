"""Where the time stamps of a stream break, and which single ones are wrong: one rule for all.

Stamps grow. Where one does not, either another recording begins there, or one or two stamps are
wrong. What follows decides: a new recording goes on from its new stamp.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

# This many stamps in a row, or all that are left, have to go on from a break.
AGREEING = 3

# No longer run of stamps is taken for wrong ones.
LONGEST_WRONG = 2

# How many stamps before and after a place are compared.
BEFORE, AFTER = 4, 6

# What an explanation costs, in doublings: steps twice or half as long as usual cost 1.
NEW_STRETCH, WRONG_STAMP, SAME, WORST = 3.0, 1.5, 4.0, 8.0


class Breaks:
    """What is wrong with a sequence of stamps.

    Attributes:
        wrong: bool `[N]`, the stamps that contradict those around them.
        starts: where the stretches begin in which the other stamps never step back: 0 first.
    """

    def __init__(self, count: int) -> None:
        self.wrong = np.zeros(count, dtype=bool)
        self.starts = [0]


def find_breaks(
    stamps: np.ndarray, places: np.ndarray, far: int | None, seams: np.ndarray | None = None
) -> Breaks:
    """Judges every step back, and every jump ahead by more than `far`.

    Args:
        stamps: int64 `[N]`, ticks.
        places: int64 `[N]`, growing: the number of the packet that each stamp belongs to.
        far: ticks; None where a jump ahead is never a break.
        seams: bool `[N]`, where it is known that something else begins.
    """
    breaks = Breaks(len(stamps))
    steps, spans = np.diff(stamps), np.diff(places)
    growing = steps > 0
    usual = float(np.median(steps[growing] / spans[growing])) if growing.any() else 1.0
    doubtful = steps < 0
    if far is not None:
        doubtful |= steps - (spans * usual).astype(np.int64) > far
    same = steps == 0
    if same.sum() <= 1 + len(stamps) // 100:
        # Where they are rare, a stamp that comes twice may be a wrong one.
        doubtful |= same
    judge = _Judge(stamps, places, usual, far, seams, breaks)
    for step in np.flatnonzero(doubtful):
        judge.settle(int(step) + 1)
    return breaks


class _Judge:
    def __init__(
        self,
        stamps: np.ndarray,
        places: np.ndarray,
        usual: float,
        far: int | None,
        seams: np.ndarray | None,
        breaks: Breaks,
    ) -> None:
        self._stamps, self._places, self._usual = stamps, places, usual
        self._far, self._seams, self._breaks = far, seams, breaks

    def settle(self, at: int) -> None:
        """Explains the doubtful step to the stamp at `at`."""
        wrong, starts = self._breaks.wrong, self._breaks.starts
        # Each round marks a stamp or begins a stretch.
        for _ in range(LONGEST_WRONG + 2):
            before = self._before(at)
            after = self._after(at)
            if not before or not after or not self._is_doubtful(before[-1], after[0]):
                return
            drop = self._best(before, after)
            if drop is None:
                starts.append(after[0])
                return
            if not drop:
                return
            wrong[drop] = True

    def _before(self, at: int) -> list[int]:
        """Sound stamps of the stretch before `at`, oldest first."""
        found: list[int] = []
        begin = self._breaks.starts[-1]
        while len(found) < BEFORE and (at := at - 1) >= begin:
            if not self._breaks.wrong[at]:
                found.append(at)
        return found[::-1]

    def _after(self, at: int) -> list[int]:
        window = range(at, min(len(self._stamps), at + AFTER + LONGEST_WRONG))
        return [i for i in window if not self._breaks.wrong[i]][:AFTER]

    def _is_doubtful(self, earlier: int, later: int) -> bool:
        step = int(self._stamps[later] - self._stamps[earlier])
        span = int(self._places[later] - self._places[earlier])
        return step <= 0 or (self._far is not None and step - span * self._usual > self._far)

    def _best(self, before: list[int], after: list[int]) -> list[int] | None:
        """Which stamps are wrong; [] if none is; None if a stretch begins with the first after."""
        around, middle = before + after, len(before)
        usual = self._usual_step(around)
        choices: list[tuple[float, list[int] | None]] = []
        if self._goes_on(after):
            known = self._seams is not None and bool(self._seams[after[0]])
            cost = self._cost(before, usual) + self._cost(after, usual)
            choices.append((cost + (0 if known else NEW_STRETCH), None))
        if self._stamps[before[-1]] == self._stamps[after[0]]:
            # A stamp that comes twice may belong to a picture that is not shown.
            choices.append((self._cost(around, usual) - SAME + WRONG_STAMP, []))
        for length in range(1, LONGEST_WRONG + 1):
            for begin in range(middle - length, middle + 1):
                if begin < 0:
                    continue
                drop = around[begin : begin + length]
                kept = around[:begin] + around[begin + length :]
                choices.append((self._cost(kept, usual) + WRONG_STAMP * len(drop), drop))
        return min(choices, key=lambda choice: choice[0])[1]

    def _usual_step(self, around: list[int]) -> float:
        steps, spans = np.diff(self._stamps[around]), np.diff(self._places[around])
        growing = steps > 0
        return float(np.median(steps[growing] / spans[growing])) if growing.any() else self._usual

    def _goes_on(self, after: list[int]) -> bool:
        return bool((np.diff(self._stamps[after[:AGREEING]]) >= 0).all())

    def _cost(self, kept: list[int], usual: float) -> float:
        """How unusual the steps between these stamps are."""
        total = 0.0
        for earlier, later in pairwise(kept):
            step = int(self._stamps[later] - self._stamps[earlier])
            if step > 0:
                span = int(self._places[later] - self._places[earlier])
                total += min(WORST, abs(math.log2(step / (span * usual))))
            else:
                total += SAME if step == 0 else WORST
        return total
