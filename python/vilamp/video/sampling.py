"""Which moments of a video are shown: exact arithmetic on timestamps, no decoding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ..arguments import number, one_of, whole
from ..errors import VideoError
from ..limits import HIGHEST_FPS, LOWEST_FPS

POLICIES = ("time", "released", "keyframes")

# A damaged timestamp can claim centuries; at one frame per second this is eleven days and a half.
MAX_SAMPLES = 1_000_000


@dataclass(frozen=True)
class Plan:
    """Sampled moments: `times` in seconds from the start, `ticks` in the clock of the stream."""

    times: np.ndarray
    ticks: np.ndarray

    def __len__(self) -> int:
        return len(self.ticks)


def check_arguments(fps: float, sampling: str, max_frames: int | None) -> Fraction:
    """`fps` as an exact fraction (0.1 is a tenth); raises `InputError` for unusable settings."""
    one_of("sampling", sampling, POLICIES)
    if max_frames is not None:
        whole("max_frames", max_frames, most=math.inf)
    wanted = f"a number of frames per second from {LOWEST_FPS:g} to {HIGHEST_FPS:g}"
    number("fps", fps, LOWEST_FPS, HIGHEST_FPS, wanted)
    return Fraction(str(fps))


def thin(count: int, cap: int | None) -> np.ndarray:
    """Positions `[min(count, cap)]` int64 kept of `count`: an even choice, truncated linspace.

    Source: the published evaluation scripts.
    """
    kept = count if cap is None else min(count, cap)
    if kept > MAX_SAMPLES:
        raise VideoError(
            f"wanted at most {MAX_SAMPLES} sampled frames, the video would give {kept}; "
            "lower fps or set a lower max_frames"
        )
    if kept == count:
        return np.arange(count, dtype=np.int64)
    return np.linspace(0, count - 1, cap, dtype=np.int64)


def released_positions(count: int, frame_rate: float | None, cap: int | None) -> np.ndarray:
    """Which of `count` decoded frames the published reader keeps: every int(rate)-th, then thinned.

    29.97 becomes 29, so slightly more than one per second, drifting.

    Raises:
        VideoError: the frame rate is unknown or below 1, where the published reader divides by 0.
    """
    if not frame_rate or frame_rate < 1:
        given = "is unknown" if not frame_rate else f"is {frame_rate:g}"
        raise VideoError(
            f"released sampling wants a video of at least 1 frame per second, its rate {given}; "
            "use sampling='time'"
        )
    kept = np.arange(0, count, int(frame_rate), dtype=np.int64)
    return kept[thin(len(kept), cap)]


def plan_by_time(start: int, end: int, time_base: Fraction, fps: Fraction, cap: int | None) -> Plan:
    """Moments k / fps from `start` up to, not including, `end` (both in ticks of `time_base`).

    Timestamps are rounded to the tick when a file is written, so a picture that is due at a
    moment may carry a stamp just after it: one tick, at most a millisecond, is allowed for.
    """
    slack = min(time_base, Fraction(1, 1000))
    length = (end - start) * time_base
    count = max(1, math.ceil((length - slack) * fps))
    kept = thin(count, cap)
    # floor((k / fps + slack) / time_base), all in integers
    numerator = fps.denominator * time_base.denominator
    denominator = fps.numerator * time_base.numerator
    slack_ticks = slack / time_base
    shift = math.floor(slack_ticks * denominator)
    ticks = [start + (int(k) * numerator + shift) // denominator for k in kept]
    times = [int(k) * fps.denominator / fps.numerator for k in kept]
    return Plan(np.array(times, dtype=np.float64), np.array(ticks, dtype=np.int64))


def plan_released(
    stamps: np.ndarray, time_base: Fraction, frame_rate: float | None, cap: int | None
) -> Plan:
    """Moments of the frames that the published reader keeps; `stamps` `[N]` sorted ticks."""
    ticks = stamps[released_positions(len(stamps), frame_rate, cap)]
    return Plan((ticks - stamps[0]) * float(time_base), ticks)


def plan_keyframes(
    keys: np.ndarray, start: int, time_base: Fraction, fps: Fraction, cap: int | None
) -> Plan:
    """Keyframes at their own moments, but of each stretch of 1 / fps the last one only.

    Stretches end at k / fps after `start`, with the allowance of `plan_by_time`; `keys` `[K]` are
    ticks, sorted. Formats whose every picture is a keyframe would give all of them otherwise.
    """
    slack = min(time_base, Fraction(1, 1000))
    # ceil(((key - start) * time_base - slack) * fps), all in integers
    rate = time_base * fps
    allowance = slack / time_base * rate.numerator
    stretch = [
        -((math.floor(allowance) - (int(key) - start) * rate.numerator) // rate.denominator)
        for key in keys
    ]
    last = [now != following for now, following in pairwise([*stretch, None])]
    ticks = keys[np.array(last, dtype=bool)]
    ticks = ticks[thin(len(ticks), cap)]
    return Plan((ticks - start) * float(time_base), ticks)
