"""What becomes of a frame that is no keyframe, by name.

Each is an object with the two things of `vilamp_kernels.StreamingMerger` that the model uses:
`push(patches [n, M, H], start, return_weights)` gives tokens `[Q, n, H]` (and weights
`[Q, n, M]`) for the next frames of the video, `position` is the number of frames so far.
Differential merging, the paper's own, is that op, in `vilamp.merging`.
"""

from __future__ import annotations

from .learned_queries import LearnedQueries, QueryMerger
from .simple import Max, Mean, Nothing

MERGINGS = ("dfm", "mean", "max", "queries", "none")

__all__ = ["MERGINGS", "LearnedQueries", "Max", "Mean", "Nothing", "QueryMerger"]
