"""Times of pictures of which the file stamps only some: counted from one stamp to the next."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from .breaks import find_breaks
from .clock import FAR, LIMIT, LONGEST_PAUSE, NONE
from .events import APPENDED, BRIDGED, RESTAMPED, Event
from .reordering import MOST_HELD


def count_between(
    pts: np.ndarray, dts: np.ndarray, step: int, time_base: Fraction, discontinuous: bool
) -> tuple[np.ndarray, list[Event]]:
    """When the n-th picture to be shown is shown, int64 `[N]` ticks, growing, and the decisions.

    The known presentation times are kept. Between two of them pictures follow each other in the
    usual step; what time is left is a pause before the second.

    Args:
        pts, dts: int64 `[N]`, ticks by packet in the order of the file, or `NONE`; at least one of
            `pts` is known.
        step: ticks from one picture to the next.
    """
    packets = np.flatnonzero((pts != NONE) & (np.abs(pts) <= LIMIT))
    stamps = pts[packets]
    numbers = _numbers(packets, stamps, dts[packets], step)
    rising = np.concatenate(([True], np.diff(np.maximum.accumulate(numbers)) > 0))
    stamps, numbers = stamps[rising], numbers[rising]
    far = int((FAR if discontinuous else LONGEST_PAUSE) / time_base)
    breaks = find_breaks(stamps, numbers, far)
    events: list[Event] = []
    starts = set(breaks.starts[1:])
    offset = 0
    known: list[tuple[int, int]] = []
    for at in range(len(stamps)):
        number, stamp = int(numbers[at]), int(stamps[at]) + offset
        if known:
            counted = known[-1][1] + (number - known[-1][0]) * step
            if at in starts:
                offset += counted - stamp
                kind = BRIDGED if stamp > counted else APPENDED
                events.append(Event(kind, counted, counted, stamp - counted))
                stamp = counted
            if breaks.wrong[at]:
                events.append(Event(RESTAMPED, counted, counted, 0))
        if not breaks.wrong[at]:
            known.append((number, stamp))
    return _line(known, len(pts), step), events


def _numbers(packets: np.ndarray, stamps: np.ndarray, dts: np.ndarray, step: int) -> np.ndarray:
    """int64 `[K]`: the how manieth to be shown the picture of each stamped packet is.

    Decoding times tell how far it moves from its place in the file. Where they do not, the
    stamps around it do, unless a pause lies between.
    """
    moved = np.where(dts == NONE, NONE, np.rint((stamps - dts) / step).astype(np.int64))
    told = (dts != NONE) & (np.abs(moved) <= MOST_HELD + 1)
    held = int(moved[0]) if told[0] and packets[0] == 0 else 0
    numbers = packets + np.where(told, moved - held, 0)
    for at in np.flatnonzero(~told)[::-1]:
        for other in (at + 1, at - 1):
            if not 0 <= other < len(packets) or (other < at and not told[other]):
                continue
            number = int(numbers[other] + round(int(stamps[at] - stamps[other]) / step))
            if abs(number - int(packets[at])) <= MOST_HELD:
                numbers[at] = number
                break
    return np.maximum(numbers, 0)


def _line(known: list[tuple[int, int]], count: int, step: int) -> np.ndarray:
    first, last = known[0], known[-1]
    numbers = np.arange(count, dtype=np.int64)
    line = first[1] + (numbers - first[0]) * step
    for (number, stamp), (following, end) in pairwise(known):
        between = np.arange(following - number, dtype=np.int64)
        room = end - stamp
        counted = between * step
        if room < (following - number + 1) * step:
            # Rounded rates, and more pictures than there is time for.
            counted = between * room // (following - number)
        line[number:following] = stamp + counted[: max(0, count - number)]
    behind = numbers[min(last[0], count) :]
    line[min(last[0], count) :] = last[1] + (behind - last[0]) * step
    return line
