"""What becomes of a frame that is no keyframe, by name.

Each is an object with the two things of `vilamp_kernels.StreamingMerger` that the model uses:
`push(patches [n, M, H], start, return_weights)` gives tokens `[Q, n, H]` (and weights
`[Q, n, M]`) for the next frames of the video, `position` is the number of frames so far.
Differential merging, the paper's own, is that op, in `vilamp.merging`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from .learned_queries import LearnedQueries, QueryMerger
from .simple import FrameByFrame, Max, Mean, Nothing

SIMPLE: dict[str, Callable[[int, nn.Linear], FrameByFrame]] = {
    "mean": Mean,
    "max": Max,
    "none": Nothing,
}


class Merger(Protocol):
    """What the model asks of a merging."""

    @property
    def position(self) -> int:
        """Number of frames pushed so far."""
        ...

    def push(self, patches: Tensor, start: int, return_weights: bool = False) -> Any:
        """Tokens of the next frames, with `return_weights` the weights too."""
        ...


__all__ = ["SIMPLE", "LearnedQueries", "Merger", "QueryMerger"]
