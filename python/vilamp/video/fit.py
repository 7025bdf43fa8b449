"""Brings pictures to one size, for what needs one."""

from __future__ import annotations

import numpy as np
from PIL import Image


def fit(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """`[h, w, 3]` uint8 to `[height, width, 3]`: scaled to fit, centred on black, as players do."""
    h, w = image.shape[:2]
    if (w, h) == (width, height):
        return image
    scale = min(width / w, height / h)
    size = max(1, min(width, round(w * scale))), max(1, min(height, round(h * scale)))
    scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    canvas = np.zeros((height, width, 3), dtype=np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    return canvas
