"""Mergings without parameters of their own: mean, maximum, nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

NAME = "merging"


class FrameByFrame(ABC):
    """A merging that looks at one frame at a time; the same token for all questions.

    Args:
        questions: Q.
        output: the projector's last layer, `[.., H] -> [.., H]`.
    """

    def __init__(self, questions: int, output: nn.Linear):
        self._questions, self._output = questions, output
        self._position = 0

    @property
    def position(self) -> int:
        """Number of frames pushed so far: the `start` of the next push."""
        return self._position

    @torch.no_grad()
    def push(
        self, patches: Tensor, start: int, return_weights: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Merge the next frames.

        Args:
            patches: `[n, M, H]`, inputs of `output`.
            start: number of the first of them.
            return_weights: also give fp32 `[Q, n, M]`, what each patch had a part in.
        Returns:
            `[Q, n, H]`.
        Raises:
            ValueError: not the next frames.
        """
        if start != self._position:
            raise ValueError(f"{NAME}: wanted start {self._position}; given start {start}")
        tokens, weights = self._pool(patches)
        self._position += len(patches)
        tokens = tokens.expand(self._questions, -1, -1)
        if not return_weights:
            return tokens
        return tokens, weights.float().expand(self._questions, -1, -1)

    @abstractmethod
    def _pool(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """`[n, H]` and `[n, M]`."""


class Mean(FrameByFrame):
    """The mean of a frame's projected patches."""

    def _pool(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        n, count, _ = patches.shape
        # The last layer is linear: it may come after the mean.
        tokens = self._output(patches.mean(1, dtype=torch.float32).to(patches.dtype))
        return tokens, patches.new_full((n, count), 1 / count, dtype=torch.float32)


class Max(FrameByFrame):
    """The greatest value that any projected patch has, for each of the H numbers."""

    def _pool(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        best = self._output(patches).max(1)
        # Of a token's numbers, how many each patch gave.
        given = torch.nn.functional.one_hot(best.indices, patches.shape[1])
        return best.values, given.sum(1) / best.indices.shape[-1]


class Nothing(FrameByFrame):
    """No token at all: the language model sees keyframes only."""

    def _pool(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        n, count, _ = patches.shape
        return patches.new_empty((n, 0)), patches.new_zeros((n, count))
