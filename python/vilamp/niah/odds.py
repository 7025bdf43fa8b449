"""How likely evenly spaced frames are to meet the needle at all."""

from __future__ import annotations


def uniform_hit(frames: int, needle: int, keyframes: int) -> float:
    """Chance that one of `keyframes` evenly spaced frames lies in a needle somewhere in a video.

    Args:
        frames: of the whole video.
        needle: frames of the needle, all of it at a place that may be any.
        keyframes: in the middle of as many equal parts of the video.
    Returns:
        0 to 1, without regard to the ends of the video.
    """
    if frames <= 0:
        return 0.0
    return min(1.0, needle * keyframes / frames)
