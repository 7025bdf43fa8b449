"""What the options of `vilamp niah` mean, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

from vilamp.config_fields import shown
from vilamp.errors import InputError
from vilamp.limits import MOST_FRAMES
from vilamp.method import Method

# No more digits than make a number of seconds that a float holds.
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
SECONDS = re.compile(f"{_NUMBER}-{_NUMBER}", re.ASCII)


def lengths_of(text: str) -> tuple[int, ...]:
    """Frames, ascending, each once.

    Raises:
        InputError: not whole numbers from 1 to a million.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1 or found[-1] > MOST_FRAMES:
        raise InputError(
            f"--lengths: wanted numbers from 1 to {MOST_FRAMES}, as in 2000,10000, "
            f"got {shown(text)}"
        )
    return tuple(found)


def depths_of(text: str) -> tuple[float, ...]:
    """Shares from 0 to 1 from percents, ascending, each once.

    Raises:
        InputError: not numbers from 0 to 100.
    """
    try:
        found = sorted({float(part) for part in text.split(",")})
    except ValueError:
        found = []
    # Not `found[0] < 0`: NaN is neither.
    if not found or not all(0 <= depth <= 100 for depth in found):
        raise InputError(
            f"--depths: wanted percents from 0 to 100, as in 0,50,100, got {shown(text)}"
        )
    return tuple(depth / 100 for depth in found)


def seconds_of(text: str) -> tuple[float, float]:
    """Shortest and longest.

    Raises:
        InputError: not two numbers in order.
    """
    match = SECONDS.fullmatch(text.strip())
    low, high = map(float, match.groups()) if match else (1.0, 0.0)
    if not 0 < low <= high:
        raise InputError(f"--seconds: wanted shortest-longest, as in 30-120, got {shown(text)}")
    return low, high


def methods_of(texts: Sequence[str], keyframes: int | None) -> list[Method]:
    """Methods such as dks+dfm, selector and merging, each once.

    Raises:
        InputError: not two names, or an unknown one.
    """
    found: list[Method] = []
    for text in texts:
        selector, plus, merging = text.strip().lower().partition("+")
        if not plus:
            raise InputError(f"--method: wanted selector+merging, as in dks+dfm, got {shown(text)}")
        method = Method(selector, merging, keyframes)
        if method not in found:
            found.append(method)
    return found
