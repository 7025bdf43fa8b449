"""Differential feature merging (DFM): every frame that is no keyframe becomes one token.

A patch counts for more when it matters to the question and for less when it looks like the same
patch of the reference frame (Cheng et al. 2025, arXiv:2504.02438, section 3.3). Both are compared
through learned maps, `composer_projector.*` in a checkpoint.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import vilamp_kernels as vk


class ComposerProjector(nn.Module):
    """The learned maps of the merging; its parameters have the names of the published checkpoint.

    Args:
        patch_width: width of projected patches, which is the language model's.
        query_width: width of CLIP's embeddings.
    """

    def __init__(self, patch_width: int, query_width: int):
        super().__init__()
        self.tau = nn.Parameter(torch.tensor(0.01))
        self.linear_iq = nn.Linear(patch_width, patch_width)
        self.linear_ik = nn.Linear(patch_width, patch_width)
        self.linear_q = nn.Linear(query_width, patch_width)
        self.linear_k = nn.Linear(patch_width, patch_width)

    def forward(
        self,
        patches: Tensor,
        questions: Tensor,
        references: Tensor,
        assignment: Tensor,
        output: nn.Linear,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Merge frames into one token each.

        Args:
            patches: `[n, M, C]`, inputs of `output`.
            questions: `[Q, D]` CLIP embeddings, any float dtype.
            references: `[R, M, C]`, inputs of `output` too.
            assignment: int64 `[Q, n]`: row of `references`, -1 for none, -2 for the frame itself.
            output: the projector's last layer. The weights of a frame sum to 1, so it is applied
                to the pooled token instead of each patch.
            return_weights: also give the weight of each patch.
        Returns:
            Tokens `[Q, n, H]`; with `return_weights` also fp32 `[Q, n, M]`.
        """
        return vk.projected_differential_pool(
            patches,
            questions.to(patches.dtype),
            references,
            assignment,
            self.linear_iq.weight,
            self.linear_iq.bias,
            self.linear_ik.weight,
            self.linear_ik.bias,
            self.linear_q.weight,
            self.linear_q.bias,
            self.linear_k.weight,
            self.linear_k.bias,
            self.tau,
            output_weight=output.weight,
            output_bias=output.bias,
            return_weights=return_weights,
        )


class ReferenceBank:
    """The reference frames that are still needed while a video passes by in time order.

    Its memory does not grow with the video: a frame is let go after the last one that refers to it.

    Args:
        references: int64 `[Q, N]` from `keyframes.references`: per frame the number of the frame it
            is compared with, its own number for itself, -1 for none; never a later frame.
    """

    def __init__(self, references: Tensor):
        self._references = references.cpu()
        q, n = self._references.shape
        frames = torch.arange(n).expand(q, n)
        elsewhere = (self._references >= 0) & (self._references != frames)
        self._last_use = torch.full((n,), -1)
        self._last_use.scatter_reduce_(
            0, self._references[elsewhere], frames[elsewhere], reduce="amax"
        )
        self._held: dict[int, Tensor] = {}

    def push(self, start: int, patches: Tensor) -> tuple[Tensor, Tensor]:
        """The next batch of the video, whole.

        Args:
            start: number of its first frame.
            patches: `[n, M, C]` of frames `start .. start + n - 1`.
        Returns:
            references `[R, M, C]` and assignment int64 `[Q, n]`, as `ComposerProjector` takes them.
        """
        end = start + len(patches)
        for frame in range(start, end):
            if self._last_use[frame] >= 0:
                # A copy, so that holding one frame does not hold its batch.
                self._held[frame] = patches[frame - start].clone()
        numbers = list(self._held)
        own = torch.arange(start, end)
        wanted = self._references[:, start:end]
        assignment = torch.where(wanted == own, -2, wanted.clamp(max=-1))
        for row, frame in enumerate(numbers):
            assignment[(wanted == frame) & (wanted != own)] = row
        bank = torch.stack(list(self._held.values())) if numbers else patches[:0]
        self._held = {f: p for f, p in self._held.items() if self._last_use[f] >= end}
        return bank, assignment.to(patches.device)


def visual_sequence(keyframes: Tensor, keyframe_tokens: Tensor, merged: Tensor) -> Tensor:
    """All tokens of a video in time order.

    Args:
        keyframes: int64 `[k]` ascending.
        keyframe_tokens: `[k, T, H]`.
        merged: `[N, H]`; the rows of keyframes are not used.
    Returns:
        `[k * T + N - k, H]`.
    """
    pieces, start = [], 0
    for tokens, frame in zip(keyframe_tokens, keyframes.tolist(), strict=True):
        pieces += [merged[start:frame], tokens]
        start = frame + 1
    return torch.cat([*pieces, merged[start:]])
