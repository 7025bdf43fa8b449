"""What a processor of `transformers` is told of a video: each frame by itself, and its time.

Processors know times by `VideoMetadata` alone, and take 24 frames a second for granted without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Frame numbers are whole, and one processor keeps whole milliseconds of a frame's length only.
FRAME_RATE = 1000
"""Frames a second of the frame numbers: a number is a time in milliseconds."""

METADATA = "video_metadata"

STEPS = ("second_per_grid_ts", "video_second_per_grid")
"""Names of a model's argument for the seconds between two frames, where it has one for all."""


def video_arguments(
    processor: Any, pictures: np.ndarray, times: Sequence[float], duration: float | None = None
) -> dict[str, Any]:
    """A processor's arguments for one video; nothing in them is shared with another call.

    Args:
        processor: of `transformers`, with a `video_processor`.
        pictures: uint8 `[n, H, W, 3]`.
        times: n seconds, ascending.
        duration: of the whole video in seconds; the last time when None.
    Returns:
        `videos`, each picture as often as the model puts neighbours into one patch, so that no two
        pictures share one; `video_metadata`, their times in milliseconds; `do_sample_frames`,
        False; `return_metadata`, True: the processor gives `METADATA` back, which no model takes.
    """
    from transformers.video_utils import VideoMetadata

    copies = frames_per_patch(processor)
    numbers = [round(time * FRAME_RATE) for time in times]
    seconds = max(times[-1], duration or 0.0)
    height, width = pictures.shape[1:3]
    metadata = VideoMetadata(
        total_num_frames=max(numbers[-1] + 1, round(seconds * FRAME_RATE)),
        fps=float(FRAME_RATE),
        width=width,
        height=height,
        duration=seconds,
        frames_indices=[number for number in numbers for _ in range(copies)],
    )
    return {
        "videos": [np.repeat(pictures, copies, axis=0)],
        METADATA: metadata,
        # Some processors leave out frames that they were given unless they are told not to.
        "do_sample_frames": False,
        # Some write no times, or fail, where their video processor does not hand this on.
        "return_metadata": True,
    }


def frames_per_patch(processor: Any) -> int:
    """How many frames in a row the model sees as one: 1 where each is seen by itself."""
    found = getattr(processor.video_processor, "temporal_patch_size", None)
    # NVIDIA's Nemotron has it in the processor, under another name.
    return int(found or getattr(processor, "video_temporal_patch_dim", None) or 1)


def mean_step(times: Sequence[float]) -> float:
    """Seconds from a frame to the next on average, of at least two."""
    return (times[-1] - times[0]) / (len(times) - 1)
