"""What had to be decided about the times of a stream, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import NamedTuple

from ..clock import clock

RESTAMPED, APPENDED, BRIDGED, KEPT = "restamped", "appended", "bridged", "kept"


class Event(NamedTuple):
    """One decision: what kind, from and to which tick, and how many ticks were jumped over."""

    kind: str
    begin: int
    end: int
    jump: int


def describe(
    events: Iterable[Event], seconds: Callable[[int], float], time_base: Fraction
) -> list[str]:
    """At most one line of each kind, in the order in which the kinds first occur.

    Args:
        seconds: from a tick to seconds since the start of the video.
    """
    groups: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda event: event.begin):
        groups.setdefault(event.kind, []).append(event)
    return [_sentence(kind, group, seconds, time_base) for kind, group in groups.items()]


def _sentence(
    kind: str, group: list[Event], seconds: Callable[[int], float], time_base: Fraction
) -> str:
    count = len(group)
    first, last = (clock(max(0.0, seconds(event.begin))) for event in (group[0], group[-1]))
    where = f"at {first}" if count == 1 else f"between {first} and {last}"
    if kind == RESTAMPED:
        stamps = "1 time stamp" if count == 1 else f"{count} time stamps"
        return f"{stamps} {where} contradicted those around: replaced"
    if kind == APPENDED:
        what = "another recording was" if count == 1 else f"{count} more recordings were"
        return f"{what} appended {where}: time goes on there, though the time stamps step back"
    longest = _length(float(max(abs(event.jump) for event in group) * time_base))
    if kind == BRIDGED:
        jumps = f"a jump of {longest}" if count == 1 else f"{count} jumps of up to {longest}"
        return f"bridged {jumps} ahead in the time stamps {where}: time goes on without a gap"
    gaps = f"a gap of {longest}" if count == 1 else f"{count} gaps of up to {longest}"
    return f"kept {gaps} without pictures {where}: the picture before stays on screen"


def _length(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"
