"""What a source of frames says about itself and what it yields."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a source, known once it is open.

    Attributes:
        path: file or folder; None for pictures handed over in memory.
        width, height: size in pixels of the first picture (rotation applied); later ones may
            have another, `frame.image.shape` tells.
        duration: seconds from the first frame to the end of the last.
        codec: name of the decoder, or what the source is ("images", "array").
        frame_rate: average frames per second of the stream; None when unknown.
        rotation: degrees clockwise by which the first picture was turned to stand upright.
        stream: index of the stream in its container; None when there is no container.
        container: name of the container format; None when there is none.
        pixel_format: stored pixel format, such as "yuv420p".
        sample_aspect_ratio: width over height of a stored pixel (reported, not applied).
        frame_count: pictures in the stream, before sampling.
    """

    path: str | None
    width: int
    height: int
    duration: float | None
    codec: str
    frame_rate: float | None
    rotation: int = 0
    stream: int | None = None
    container: str | None = None
    pixel_format: str = "rgb24"
    sample_aspect_ratio: Fraction = Fraction(1)
    frame_count: int = 0


@dataclass(frozen=True, eq=False)
class Frame:
    """One sampled picture.

    Attributes:
        index: position among the sampled frames, counted from 0 without gaps.
        time: seconds after the start of the stream for which the picture was asked.
        image: uint8 `[H, W, 3]`, RGB, C-contiguous, upright, in the picture's own size.
        pts: seconds after the start at which the picture itself first appears; at most `time`
            up to the rounding of the stream's clock, unless it stands in for a broken first one.
    """

    index: int
    time: float
    image: np.ndarray
    pts: float


class Skipped(NamedTuple):
    """Broken places in a row.

    Attributes:
        time: seconds from the start to the first of them; None when unknown.
        reason: what is wrong with each.
        end: seconds to the last of them; None if it is the only one, or when unknown.
        count: how many they are.
    """

    time: float | None
    reason: str
    end: float | None = None
    count: int = 1
