"""Which picture is on screen at each planned moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

Picture = TypeVar("Picture")


def on_screen(
    moments: np.ndarray,
    due: np.ndarray,
    pictures: Iterable[tuple[int, Picture]],
    late: Callable[[int, int], None],
) -> Iterator[tuple[int, int, Picture]]:
    """Pairs every moment with the newest picture that has come by then.

    Where pictures are missing the last one stays on screen, as in a player; before the first
    picture, that first one stands in. So there is one result per moment, unless there is no
    picture at all. Stops reading `pictures` after the last moment.

    Args:
        moments: int64 `[N]` ascending ticks.
        due: int64 `[N]`: the tick of the picture that ought to be on screen, at most the moment.
        pictures: (tick, picture) with ticks that never decrease.
        late: called with (tick due, tick shown) before a picture older than the due one is used.
    Yields:
        (position among the moments, tick of the picture, picture).
    """
    position, count = 0, len(moments)
    held: tuple[int, Picture] | None = None
    for tick, picture in pictures:
        while position < count and moments[position] < tick:
            if held is None:
                yield position, tick, picture
            else:
                late(int(due[position]), held[0])
                yield position, *held
            position += 1
        while position < count and due[position] <= tick:
            yield position, tick, picture
            position += 1
        if position == count:
            return
        held = tick, picture
    while held is not None and position < count:
        late(int(due[position]), held[0])
        yield position, *held
        position += 1
