"""The list of broken places: neighbours become one entry, and its length is limited."""

from __future__ import annotations

import math

from .types import Skipped

# More entries than this nobody reads; what comes after them is counted in one.
MOST_ENTRIES = 100
REST = "further broken places"


def add_skipped(places: list[Skipped], time: float | None, reason: str, reach: float) -> None:
    """Adds a broken place to `places`.

    It joins the last entry with the same reason if that is at most `reach` seconds away, or if
    the time of neither is known.
    """
    full = len(places) >= MOST_ENTRIES
    for at in range(len(places) - 1, -1, -1):
        found = places[at]
        if found.reason == reason:
            if _is_near(found, time, reach):
                places[at] = _joined(found, time)
                return
            break
    if not full:
        places.append(Skipped(time, reason))
    elif places[-1].reason == REST:
        places[-1] = _joined(places[-1], time)
    else:
        places.append(Skipped(time, REST))


def _is_near(found: Skipped, time: float | None, reach: float) -> bool:
    if time is None or found.time is None:
        return time is found.time
    end = found.time if found.end is None else found.end
    return found.time - reach <= time <= end + reach


def _joined(found: Skipped, time: float | None) -> Skipped:
    known = [t for t in (found.time, found.end, time) if t is not None and math.isfinite(t)]
    if not known:
        return found._replace(count=found.count + 1)
    return Skipped(min(known), found.reason, max(known), found.count + 1)
