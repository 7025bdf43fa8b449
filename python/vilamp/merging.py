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
        maps = self._projection(output)
        return vk.projected_differential_pool(
            patches,
            questions.to(patches.dtype),
            references,
            assignment,
            *maps[:8],
            self.tau,
            output_weight=maps.output_weight,
            output_bias=maps.output_bias,
            return_weights=return_weights,
        )

    def merger(
        self,
        questions: Tensor,
        references: Tensor,
        output: nn.Linear,
        alpha: float | None = None,
        lam: float | None = None,
    ) -> vk.StreamingMerger:
        """The same merging for a video that arrives in batches, in time order; no gradients.

        Args:
            questions: `[Q, D]` CLIP embeddings, any float dtype.
            references: int64 `[Q, N]` from `keyframes.references`.
            output: the projector's last layer.
            alpha: temperature of the softmax; the checkpoint's when None.
            lam: weight of the likeness to the reference; 1, the paper's, when None.
        """
        return vk.StreamingMerger(
            questions.to(output.weight.dtype),
            references,
            alpha=self.tau if alpha is None else alpha,
            lam=1.0 if lam is None else lam,
            projection=self._projection(output),
        )

    def _projection(self, output: nn.Linear) -> vk.Projection:
        maps = (self.linear_iq, self.linear_ik, self.linear_q, self.linear_k)
        tensors = (tensor for linear in maps for tensor in (linear.weight, linear.bias))
        return vk.Projection(*tensors, output.weight, output.bias)


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
