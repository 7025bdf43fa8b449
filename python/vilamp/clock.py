"""Times of a video as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """`mm:ss`, or `h:mm:ss` from one hour on; fractions of a second are dropped.

    >>> clock(75.9), clock(3661)
    ('01:15', '1:01:01')
    """
    minutes, second = divmod(max(0, int(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute:02}:{second:02}"
