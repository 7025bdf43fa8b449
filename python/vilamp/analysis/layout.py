"""Which token of a prompt belongs to which frame of the video, and to which patch of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class VisionTokens:
    """The tokens of a video in a prompt, in prompt order."""

    positions: Tensor
    """int64 `[V]`, ascending."""
    frames: Tensor
    """int64 `[V]`: number of the frame, 0 to F - 1, each at least once, ascending."""

    def __post_init__(self) -> None:
        if len(self.positions) == 0:
            raise InputError("the prompt has no token of a video")

    @property
    def count(self) -> int:
        """F."""
        return int(self.frames[-1]) + 1

    def per_frame(self) -> Tensor:
        """int64 `[F]`: tokens of each frame."""
        return torch.bincount(self.frames, minlength=self.count)


def equal_frames(positions: Tensor, frames: int) -> VisionTokens:
    """A video whose frames have equally many tokens.

    Raises:
        InputError: the tokens cannot be divided by the frames.
    """
    each, rest = divmod(len(positions), frames)
    if each == 0 or rest:
        raise InputError(f"{len(positions)} tokens of video cannot be {frames} equal frames")
    numbers = torch.arange(frames, device=positions.device)
    return VisionTokens(positions, numbers.repeat_interleave(each))


def mixed_frames(first: int, keyframes: Tensor, grid: int, count: int) -> VisionTokens:
    """ViLAMP's video: `grid` tokens for a keyframe, one for every other frame.

    Args:
        first: position of the first token.
        keyframes: int64 `[k]`, frame numbers.
        grid: tokens of a keyframe.
        count: frames of the video.
    """
    each = torch.ones(count, dtype=torch.int64, device="cpu")
    each[keyframes.cpu()] = grid
    frames = torch.arange(count, device="cpu").repeat_interleave(each)
    return VisionTokens(first + torch.arange(len(frames), device="cpu"), frames)


def of_transformers(model_type: str, ids: Tensor, token: int, inputs: dict) -> VisionTokens:
    """The video of a prompt made by a processor of transformers.

    Args:
        model_type: of the model's config: `llava_onevision`, or one of Qwen's `qwen2_vl` kind.
        ids: int64 `[L]`, the prompt.
        token: the id that stands for one token of video.
        inputs: what the processor gave: `pixel_values_videos [1, F, ...]` or `video_grid_thw`.
    Raises:
        InputError: another kind of model, or tokens that do not fit the frames.
    """
    positions = (ids.cpu() == token).nonzero().flatten()
    if model_type == "llava_onevision":
        # One vector for the end of the video comes after the grids.
        return equal_frames(positions[:-1], inputs["pixel_values_videos"].shape[1])
    if model_type.startswith("qwen2") and "video_grid_thw" in inputs:
        # Each frame has tokens of its own: it was given as often as a patch takes frames.
        return equal_frames(positions, int(inputs["video_grid_thw"][0, 0]))
    raise InputError(
        f"analyze: wanted ViLAMP, llava_onevision, qwen2_vl or qwen2_5_vl, got {model_type!r}"
    )


def question_positions(ids: Tensor, question: list[list[int]], after: int) -> Tensor:
    """Where the question stands in a prompt.

    Args:
        ids: int64 `[L]`.
        question: its ids, in each of the forms that a tokenizer may give it in this place.
        after: position from which to look.
    Returns:
        int64 `[R]`.
    Raises:
        InputError: it is not there.
    """
    whole = ids.tolist()
    for form in question:
        for start in range(len(whole) - len(form), after - 1, -1):
            if form and whole[start : start + len(form)] == form:
                return torch.arange(start, start + len(form), device="cpu")
    raise InputError("the question was not found in the prompt behind the video")
