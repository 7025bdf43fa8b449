"""Time stamps of one stream made into one line of time."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from .breaks import find_breaks
from .events import APPENDED, BRIDGED, KEPT, RESTAMPED, Event
from .reordering import MOST_HELD, fill_in, unfitting

NONE = -(1 << 63)
"""A stamp that the file does not give."""

# Seconds: a jump ahead of more than this is a break in formats whose stamps may jump by nature.
FAR = 10

# In formats with a timeline of their own a jump ahead is a pause, but none lasts as long as this
# (seconds): there stamps wrapped, or are damaged.
LONGEST_PAUSE = 864_000

# Further than this from everything no stamp can be; sums of such stamps still fit int64.
LIMIT = 1 << 60


@dataclass
class Line:
    """When pictures are shown, on one line of time.

    Attributes:
        pts: int64 `[N]`, ticks by packet; `NONE` for a packet that gives no picture of its own.
        events: what had to be decided, with moments in the same ticks.
    """

    pts: np.ndarray
    events: list[Event] = field(default_factory=list)


def mend(
    pts: np.ndarray,
    dts: np.ndarray,
    places: np.ndarray,
    step: int,
    time_base: Fraction,
    discontinuous: bool,
) -> Line:
    """One line of time from the stamps of the pictures of a stream, in the order of the file.

    A stamp, or two in a row, that contradict those on both sides are replaced by the time that is
    left between them. Where time steps back for good, another recording was appended: it goes on
    where the one before ended. A jump ahead for good by more than 10 s is bridged in the same way
    if the format is `discontinuous`; else it stays, if it is shorter than ten days.

    Args:
        pts, dts: int64 `[N]` ticks of `time_base`, or `NONE`.
        places: int64 `[N]`, growing: packet numbers, which leave out packets that are not shown.
        step: ticks from one picture to the next where the stamps do not tell.
    """
    pts = _within_limits(pts)
    dts = _within_limits(dts)
    far = int((FAR if discontinuous else LONGEST_PAUSE) / time_base)
    dts, starts, doubtful = _decoding_line(pts, dts, places, step, far)
    usual = _usual_step(dts, starts, step)
    line = Line(np.full(len(pts), NONE, dtype=np.int64))
    offset = 0
    reached: int | None = None
    for begin, end in zip(starts, [*starts[1:], len(pts)], strict=True):
        part = slice(begin, end)
        shown, changed = _stretch(pts[part], dts[part], doubtful[part], usual)
        times = shown != NONE
        if not times.any():
            continue
        first, last = int(shown[times].min()), int(shown[times].max())
        if reached is not None:
            ahead = first + offset - reached
            if ahead <= 0 or ahead > far + usual:
                offset += usual - ahead
                known = begin > 0 and places[begin] - places[begin - 1] > 1
                if not known:
                    # Stamps of a format that wraps jump ahead by as much as they have gone on.
                    kind = BRIDGED if ahead > 0 else APPENDED
                    line.events.append(Event(kind, first + offset, first + offset, ahead))
        reached = last + offset
        line.pts[part] = np.where(times, shown + offset, NONE)
        for at in np.flatnonzero(changed):
            moment = int(line.pts[begin + at])
            line.events.append(Event(RESTAMPED, moment, moment, 0))
    if not discontinuous:
        line.events += _gaps(line.pts, int(FAR / time_base))
    return line


def _within_limits(stamps: np.ndarray) -> np.ndarray:
    return np.where(np.abs(stamps) > LIMIT, NONE, stamps)


def _decoding_line(
    pts: np.ndarray, dts: np.ndarray, places: np.ndarray, step: int, far: int
) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Decoding times without wrong and missing ones, where each stretch of them begins, and which
    were wrong."""
    doubtful = np.zeros(len(dts), dtype=bool)
    known = np.flatnonzero(dts != NONE)
    if len(known) * 2 < len(dts):
        # Presentation times have to do, though they jump where pictures are reordered.
        stamped = np.flatnonzero(pts != NONE)
        rising = np.maximum.accumulate(pts[stamped]) if len(stamped) else pts[stamped]
        return _interpolated(rising, stamped, len(pts), [0], step), [0], doubtful
    seams = np.concatenate(([False], np.diff(places) > 1))[known]
    breaks = find_breaks(dts[known], known, far, seams)
    starts = [0, *(int(known[start]) for start in breaks.starts[1:])]
    sound = known[~breaks.wrong]
    doubtful[known[breaks.wrong]] = True
    return _interpolated(dts[sound], sound, len(dts), starts, step), starts, doubtful


def _interpolated(
    stamps: np.ndarray, places: np.ndarray, count: int, starts: list[int], step: int
) -> np.ndarray:
    """int64 `[count]`: `stamps` at their places, and between and around them what they tell."""
    if len(places) == count:
        return stamps
    usual = _usual_step(stamps, [0], step)
    result = np.empty(count, dtype=np.int64)
    for begin, end in zip(starts, [*starts[1:], count], strict=True):
        inside = slice(*np.searchsorted(places, (begin, end)))
        at, known = places[inside], stamps[inside]
        numbers = np.arange(begin, end)
        if not len(at):
            result[begin:end] = numbers * usual
            continue
        # From an integer nearby, since floats are exact only so far.
        origin = int(known[0])
        between = np.rint(np.interp(numbers, at, known - origin)).astype(np.int64) + origin
        before = np.minimum(numbers - at[0], 0) * usual
        behind = np.maximum(numbers - at[-1], 0) * usual
        result[begin:end] = between + before + behind
    return result


def _usual_step(stamps: np.ndarray, starts: list[int], step: int) -> int:
    steps = np.diff(stamps)
    steps = steps[steps > 0]
    return max(1, int(np.median(steps))) if len(steps) else max(1, step)


def _stretch(
    pts: np.ndarray, dts: np.ndarray, doubtful: np.ndarray, usual: int
) -> tuple[np.ndarray, np.ndarray]:
    """Presentation times of one stretch, and bool `[N]`: which of them were wrong.

    Where the decoding time was wrong, `doubtful`, so is a presentation time far from the right one.
    """
    known = pts != NONE
    wrong = unfitting(pts, dts, known, usual)
    wrong |= known & doubtful & (np.abs(pts - dts) > 2 * MOST_HELD * usual)
    if known.all() and not wrong.any():
        return pts, wrong
    filled = fill_in(pts, dts, known & ~wrong, wrong, usual)
    # What is put between the same two pictures as before was only reordered.
    others = np.unique(pts[known & ~wrong])
    before, now = np.searchsorted(others, pts), np.searchsorted(others, filled)
    inside = (before == now) & (now > 0) & (now < len(others))
    wrong &= ~inside | np.isin(pts, others)
    return np.where(known & ~wrong, pts, filled), wrong


def _gaps(pts: np.ndarray, far: int) -> list[Event]:
    ticks = np.unique(pts[pts != NONE])
    steps = np.diff(ticks)
    wide = np.flatnonzero(steps > far)
    return [Event(KEPT, int(ticks[at]), int(ticks[at + 1]), int(steps[at])) for at in wide]
