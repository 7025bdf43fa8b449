"""Removes the combs that motion leaves in interlaced pictures."""

from __future__ import annotations

import numpy as np

# Two neighbours both off by this many levels are a comb, not noise.
STEP = 12


def remove_combs(image: np.ndarray) -> np.ndarray:
    """uint8 `[H, W, 3]` with two woven fields to one without combs.

    The lines of the upper field stay. A pixel of the lower field is replaced by the mean of the
    lines above and below only where it combs: where it differs from both in the same direction
    while the next line of its own field resembles it. What does not move keeps all its lines.
    """
    if len(image) < 4:
        return image
    luma = image.astype(np.int16).sum(axis=2) // 3
    rows = np.arange(1, len(image) - 1, 2)
    here, above, below = luma[rows], luma[rows - 1], luma[rows + 1]
    own = luma[np.where(rows + 2 < len(image), rows + 2, rows - 2)]
    up, down = here - above, here - below
    apart = np.minimum(np.abs(up), np.abs(down))
    combs = (up * down > 0) & (apart > STEP) & (np.abs(here - own) < apart)
    mean = (image[rows - 1].astype(np.uint16) + image[rows + 1] + 1) // 2
    out = image.copy()
    out[rows] = np.where(combs[..., None], mean.astype(np.uint8), image[rows])
    return out
