"""Presentation times against decoding times: which do not fit, and where their pictures belong."""

from __future__ import annotations

import numpy as np

# The most pictures that a decoder holds back (H.264, A.3.1), and the packets looked at around one.
MOST_HELD = 16
WINDOW = 24

# A hole that another picture fits into, in usual steps.
HOLE = 1.6


def decoding_times(pts: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """int64 `[N]`: decoding times for a format that stores none, such as Matroska.

    Pictures are decoded at the times at which they are shown, but in the order of the file. A
    keyframe that is shown before a picture that precedes it begins another recording.

    Args:
        pts: int64 `[N]` ticks, all known, in the order of the file.
        keys: bool `[N]`, which packets are keyframes.
    """
    result = np.empty_like(pts)
    begin = 0
    reached = np.maximum.accumulate(pts)
    for at in [*np.flatnonzero(keys[1:] & (pts[1:] < reached[:-1])) + 1, len(pts)]:
        result[begin:at] = np.sort(pts[begin:at])
        begin = at
    return result


def unfitting(pts: np.ndarray, dts: np.ndarray, known: np.ndarray, usual: int) -> np.ndarray:
    """bool `[N]`: presentation times that cannot be true beside the decoding times.

    Args:
        pts, dts: int64 `[N]` ticks of the packets of one stretch, in the order of the file.
        known: bool `[N]`, which of `pts` are there.
        usual: ticks from one picture to the next.
    """
    wrong = np.zeros(len(pts), dtype=bool)
    places = np.flatnonzero(known)
    if len(places) < 3:
        return wrong
    shown = pts[places]
    ahead = shown - dts[places]
    off = np.abs(ahead - int(np.median(ahead))) > usual // 2
    if off.sum() <= min(max(2, len(places) // 20), len(places) // 4):
        # Pictures are stored in the order in which they are shown, but for errors.
        wrong[places] = off
        return wrong
    low, high = np.percentile(ahead, (1, 99), method="nearest")
    doubtful = (ahead > high + 2 * usual) | (ahead < low - 2 * usual)
    if doubtful.sum() > max(4, len(places) // 20):
        return wrong
    for at in np.flatnonzero(doubtful):
        wrong[places[at]] = _is_out_of_order(shown, doubtful, int(at), usual)
    return wrong


def _is_out_of_order(shown: np.ndarray, doubtful: np.ndarray, at: int, usual: int) -> bool:
    """Whether a picture moves further between storage and show than all others around it."""
    begin = max(0, at - WINDOW)
    near = slice(begin, at + WINDOW + 1)
    order = np.argsort(shown[near], kind="stable")
    moved = np.empty(len(order), dtype=np.int64)
    moved[order] = np.arange(len(order))
    moved = np.abs(moved - np.arange(len(order)))
    others = moved[~doubtful[near]]
    if moved[at - begin] <= (others.max() if len(others) else 0) + 2:
        return False
    # A rare group of reordered pictures moves far as well, but leaves no hole.
    later = shown[near] - shown[at]
    previous, following = later[later < 0], later[later > 0]
    doubled = (later == 0).sum() > 1
    fits = len(previous) and -previous.max() <= HOLE * usual
    fits = fits and (not len(following) or following.min() <= HOLE * usual)
    return doubled or not fits


def fill_in(
    pts: np.ndarray, dts: np.ndarray, known: np.ndarray, wanted: np.ndarray, usual: int
) -> np.ndarray:
    """int64 `[N]`: `pts` with times for the packets `wanted`, bool `[N]`, from those around them.

    A packet gets the hole in the known times that is nearest to what its decoding time says. Of
    those neither known nor wanted, only the ones that find a hole get a time; what finds none is
    no picture of its own (such as a second field), and keeps its mark.
    """
    result = pts.copy()
    places = np.flatnonzero(known)
    if not len(places):
        return result
    ahead = int(np.median(pts[places] - dts[places]))
    shown = np.unique(pts[places])
    taken: set[int] = set()
    for at in np.flatnonzero(~known):
        target = int(dts[at]) + ahead
        found = _nearest_hole(shown, target, usual, taken)
        if found is None and not wanted[at]:
            continue
        if found is None:
            found = _beside(shown, target, usual)
        taken.add(found)
        result[at] = found
    return result


def _nearest_hole(shown: np.ndarray, target: int, usual: int, taken: set[int]) -> int | None:
    middle = int(np.searchsorted(shown, target))
    near = shown[max(0, middle - MOST_HELD - 2) : middle + MOST_HELD + 2]
    best: int | None = None
    for begin, end in zip(near[:-1].tolist(), near[1:].tolist(), strict=True):
        room = end - begin
        if room < HOLE * usual:
            continue
        # In a pause only the places next to its ends and to the target count.
        pieces = max(2, round(room / usual))
        nearest = round((target - begin) * pieces / room)
        for piece in {1, pieces - 1, *range(nearest - 2, nearest + 3)}:
            place = begin + room * piece // pieces
            if (
                0 < piece < pieces
                and place not in taken
                and (best is None or abs(place - target) < abs(best - target))
            ):
                best = place
    if best is not None and abs(best - target) > (MOST_HELD + 1) * usual:
        return None
    return best


def _beside(shown: np.ndarray, target: int, usual: int) -> int:
    """Where no hole is: between the times around the target, or next to the first or last."""
    middle = int(np.searchsorted(shown, target))
    if middle == 0:
        return max(target, int(shown[0]) - usual)
    if middle == len(shown):
        return min(target, int(shown[-1]) + usual)
    return (int(shown[middle - 1]) + int(shown[middle])) // 2
