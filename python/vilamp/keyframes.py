"""Differential keyframe selection (DKS): which frames the language model sees in full.

Frames are taken by relevance to the question, and a frame too similar to one taken is passed over
(Cheng et al. 2025, arXiv:2504.02438, section 3.2). The two behaviours differ in what is done about
a budget that is not used up:

released: frames below `min_score` are not taken, and the gaps are then filled evenly up to the
    budget. The reference of the frames of segment j is frame number j of the video.
paper: no `min_score` and no fill. The reference of a frame is the keyframe before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

import vilamp_kernels as vk

from .errors import InputError
from .selectors import OTHERS, WITHOUT_QUESTION

_REFERENCE_POLICY = {"released": "released", "paper": "preceding"}


@dataclass(frozen=True)
class Selection:
    """The keyframes of each of Q questions about one video of N frames."""

    indices: list[Tensor]
    """Per question, int64 frame numbers, ascending, at most K and unpadded."""
    scores: Tensor
    """fp32 `[Q, N]`: cosine of each frame and each question."""
    from_score: list[Tensor]
    """Per question and keyframe, bool: taken for its score (True) or to fill the budget."""

    def padded(self) -> Tensor:
        """int64 `[Q, longest]`, filled up with -1: the form that the ops take."""
        return torch.nn.utils.rnn.pad_sequence(self.indices, batch_first=True, padding_value=-1)


@torch.no_grad()
def select(
    frame_embeds: Tensor,
    question_embeds: Tensor,
    *,
    compat: str,
    k: int,
    tau: float,
    min_score: float,
    selector: str = "dks",
) -> Selection:
    """Select keyframes for each question.

    Args:
        frame_embeds: `[N, D]`, need not be normalised.
        question_embeds: `[Q, D]`.
        compat: `"released"` or `"paper"`, see the module.
        k: budget of keyframes per question, at least 1.
        tau: a frame whose cosine with a keyframe is greater is not taken.
        min_score: a frame that scores less is not taken (`released` only).
        selector: `"dks"`, or another of `vilamp.selectors`, which has no use for the three above.
    Returns:
        At least one keyframe per question when N >= 1; `released`: exactly min(N, k).
    Raises:
        InputError: k below 1, or embeddings of different widths.
    """
    if k < 1:
        raise InputError(f"keyframes: wanted at least 1, got {k}")
    if frame_embeds.ndim != 2 or question_embeds.ndim != 2:
        raise InputError(
            "wanted embeddings [N, D] and [Q, D], got "
            f"{list(frame_embeds.shape)} and {list(question_embeds.shape)}"
        )
    # The result of the op is as wide as the budget, however few frames there are.
    k = min(k, len(frame_embeds))
    scores = vk.similarity(frame_embeds, question_embeds)
    if selector != "dks":
        return _by_other(selector, frame_embeds, scores, k)
    released = compat == "released"
    taken, count = vk.select_keyframes(
        frame_embeds, scores, k, tau=tau, min_score=min_score if released else None
    )
    by_score = [row[:n] for row, n in zip(taken, count.tolist(), strict=True)]
    if not released:
        return Selection(by_score, scores, [torch.ones_like(row).bool() for row in by_score])
    mask = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for row, indices in zip(mask, by_score, strict=True):
        row[indices] = True
    filled = vk.fill_keyframes(mask, k)
    indices = [row.nonzero().flatten() for row in filled]
    from_score = [row[chosen] for row, chosen in zip(mask, indices, strict=True)]
    return Selection(indices, scores, from_score)


def _by_other(selector: str, frame_embeds: Tensor, scores: Tensor, k: int) -> Selection:
    rows = [row[row >= 0] for row in OTHERS[selector](frame_embeds, scores, k)]
    by_score = selector not in WITHOUT_QUESTION
    return Selection(rows, scores, [torch.full_like(row, by_score).bool() for row in rows])


def references(selection: Selection, compat: str) -> Tensor:
    """The frame that each frame is compared with when it is merged.

    Returns:
        int64 `[Q, N]`: a frame number, never later than the frame itself, or -1 for none.
    """
    n = selection.scores.shape[-1]
    return vk.reference_frames(selection.padded(), n, policy=_REFERENCE_POLICY[compat])
