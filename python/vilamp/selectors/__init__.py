"""Ways to choose keyframes without training, by name.

Each is a function `(frames [N, D], scores [Q, N], k) -> indices [Q, k]`: int64, ascending, filled
up with -1 at the end of a row that has fewer than k. `frames` need not be normalised, `scores` are
the cosines of frames and questions, and ties go to the earlier frame. None builds an N x N matrix.
A score that is NaN counts as least, and a frame whose embedding is not finite is like no other.
Differential selection, the paper's own, is the op `vilamp_kernels.select_keyframes`;
`vilamp.keyframes` calls it with the rules of the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from .aks import aks
from .bolt import bolt
from .clusters import clusters
from .dpp import dpp
from .mmr import mmr
from .top_k import top_k
from .uniform import uniform

Selector = Callable[[Tensor, Tensor, int], Tensor]

OTHERS: dict[str, Selector] = {
    "uniform": uniform,
    "top-k": top_k,
    "clusters": clusters,
    "aks": aks,
    "mmr": mmr,
    "dpp": dpp,
    "bolt": bolt,
}
WITHOUT_QUESTION = ("uniform", "clusters")
"""Selectors that do not look at the question."""

__all__ = ["OTHERS", "WITHOUT_QUESTION", "Selector"]
