"""What share of a question's attention to the video goes to each frame, and within it to patches.

Shares are of the attention that goes to the video: they sum to 1 over its tokens, for each layer
and head. How much attention goes to the video at all is kept beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .curves import cumulative
from .layout import VisionTokens


@dataclass
class Shares:
    """Sums over layers and heads, filled layer by layer; what is held does not grow with layers
    but for one number per layer, head and frame."""

    vision: VisionTokens
    frames: list[Tensor] = field(default_factory=list)
    """Per layer fp32 `[heads, F]`: share of each frame."""
    on_video: list[Tensor] = field(default_factory=list)
    """Per layer fp32 `[heads]`: part of the question's attention that goes to the video."""

    def __post_init__(self) -> None:
        each = self.vision.per_frame()
        self.grid = int(each.max())
        """Tokens of a frame in full."""
        whole = each[self.vision.frames] == self.grid
        # A frame of one token has no patches to tell apart.
        self._whole = whole.nonzero().flatten() if self.grid > 1 else None
        self._tokens = each.new_zeros(len(self.vision.frames), dtype=torch.float64)
        self._patches = each.new_zeros(self.grid, dtype=torch.float64)
        self._heads = 0

    def add(self, layer: int, attention: Tensor) -> None:
        """Take one layer's attention fp32 `[heads, V]`, as `attention.question_rows` gives it."""
        if layer != len(self.frames):
            raise ValueError(f"layers must come in order: wanted {len(self.frames)}, got {layer}")
        attention = attention.cpu().float()
        on_video = attention.sum(-1)
        # A head that does not look at the video at all has no shares: it counts as even.
        even = torch.full_like(attention, 1 / attention.shape[-1])
        share = torch.where(
            on_video[:, None] > 0, attention / on_video[:, None].clamp(min=1e-30), even
        )
        by_frame = share.new_zeros(len(share), self.vision.count)
        by_frame.index_add_(1, self.vision.frames, share)
        self.frames.append(by_frame)
        self.on_video.append(on_video)
        self._tokens += share.double().sum(0)
        self._heads += len(share)
        if self._whole is not None:
            self._patches += self._within(share[:, self._whole]).double().sum(0)

    def tokens(self) -> Tensor:
        """fp64 `[V]`: mean share of each token over layers and heads."""
        return self._tokens / self._heads

    def frame_shares(self) -> Tensor:
        """fp32 `[F]`: mean share of each frame."""
        return torch.cat(self.frames).mean(0)

    def frame_curve(self) -> Tensor:
        """fp32 `[F]`: entry i is the share held by the i + 1 frames with most of it, each head
        ranking for itself, then the mean over layers and heads."""
        return cumulative(torch.cat(self.frames)).mean(0)

    def patch_curve(self) -> Tensor | None:
        """fp64 `[P]`: the same for the patches of a frame in full: each frame and head ranks for
        itself; frames count by their share. None where no frame has more than one token."""
        return None if self._whole is None else self._patches / self._heads

    def _within(self, share: Tensor) -> Tensor:
        """`[heads, P]` from `[heads, frames in full x P]`."""
        grids = share.unflatten(1, (-1, self.grid))
        held = grids.sum(-1)
        weights = held / held.sum(-1, keepdim=True).clamp(min=1e-30)
        return (cumulative(grids) * weights[..., None]).sum(1)
