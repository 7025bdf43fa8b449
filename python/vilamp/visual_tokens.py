"""The tokens of a video for one question, filled in as the video is read."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import ViLAMP


class VisualTokens:
    """All tokens in time order: a keyframe's grid, one token for any other frame.

    Args:
        model: makes the grids.
        keyframes: int64 `[k]`, ascending.
        count: frames of the video.
        keyframes_only: leave out the frames that are none.
    """

    def __init__(self, model: ViLAMP, keyframes: Tensor, count: int, keyframes_only: bool = False):
        self._model = model
        self._keyframes = set(keyframes.tolist())
        self._grid = math.prod(model.config.keyframe_grid)
        self._keyframes_only = keyframes_only
        others = 0 if keyframes_only else count - len(self._keyframes)
        length = others + len(self._keyframes) * self._grid
        weight = model.image_newline
        # Allocated once: tokens gathered in a list would be there twice when they are joined.
        self.tokens = torch.empty(
            (length, weight.shape[-1]), dtype=weight.dtype, device=weight.device
        )
        self._end = 0

    def is_keyframe(self, frame: int) -> bool:
        """Whether the frame of this number is kept in full."""
        return frame in self._keyframes

    def add(self, start: int, patches: Tensor, merged: Tensor) -> None:
        """The next frames, from number `start` on: `patches [n, M, H]`, `merged [n, H]`."""
        full = [row for row in range(len(merged)) if self.is_keyframe(start + row)]
        begin = 0
        if self._keyframes_only:
            merged = self.tokens[:0]
        for row in full:
            self._put(merged[begin:row])
            # One at a time: all frames of a batch may be keyframes, and each takes as much again
            # as its patches.
            self._put(self._model.keyframe_tokens(patches[row : row + 1])[0])
            begin = row + 1
        self._put(merged[begin:])

    def _put(self, tokens: Tensor) -> None:
        self.tokens[self._end : self._end + len(tokens)] = tokens
        self._end += len(tokens)
