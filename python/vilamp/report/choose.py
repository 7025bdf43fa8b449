"""Which merged frames are worth showing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vilamp.session import SelectionResult


def merged_frames(selection: SelectionResult, count: int = 6) -> list[int]:
    """Indices, in time order, of a few merged frames that matter to the question.

    The best frame of each stretch between two keyframes competes; the `count` most relevant ones
    win, so that one good scene does not take all places.

    Returns:
        At most `count` indices of frames that are no keyframes, ascending.
    """
    keyframes = [keyframe.index for keyframe in selection.keyframes]
    scores = np.nan_to_num(np.asarray(selection.scores, dtype=np.float64), nan=-np.inf)
    edges = [-1, *keyframes, len(scores)]
    best = [
        start + 1 + int(np.argmax(scores[start + 1 : end]))
        for start, end in pairwise(edges)
        if end - start > 1
    ]
    return sorted(sorted(best, key=lambda index: -scores[index])[:count])


def preceding(keyframes: Sequence[int], index: int) -> int | None:
    """The last keyframe at or before a frame; None before the first one."""
    earlier = [keyframe for keyframe in keyframes if keyframe <= index]
    return earlier[-1] if earlier else None
