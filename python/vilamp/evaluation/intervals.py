"""How sure a share of right answers is."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""Standard deviations of a normal distribution that hold 95% of it."""


def wilson(right: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval of a share; 95% for the default `z`.

    Args:
        right: how many of `count` were right.
        count: how many there were.
        z: half its width, in standard deviations.
    Returns:
        Lower and upper end, shares from 0 to 1; (0, 1) when there was nothing to count.
    Raises:
        ValueError: not 0 <= right <= count.
    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if not 0 <= right <= count:
        raise ValueError(f"wilson: wanted 0 <= right <= count, got {right} and {count}")
    if count == 0:
        return 0.0, 1.0
    share = right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z * z / count
    # Exactly 0 and 1 at the ends, where rounding may leave a little more or less.
    low = 0.0 if right == 0 else max(0.0, (middle - half) / scale)
    high = 1.0 if right == count else min(1.0, (middle + half) / scale)
    return low, high
