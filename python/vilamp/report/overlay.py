"""The weights of a merged frame, as a layer of colour over its picture."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

# From clear through amber to near white: hot spots read on dark and on bright pictures alike.
# Rows are (position, red, green, blue, alpha).
RAMP = np.array(
    [
        [0.00, 28, 10, 50, 135],
        [0.25, 110, 20, 90, 105],
        [0.50, 225, 70, 50, 130],
        [0.75, 250, 160, 40, 165],
        [1.00, 255, 245, 190, 215],
    ]
)


def overlay(weights: np.ndarray) -> Image.Image:
    """One RGBA pixel per patch; the page stretches and smooths it over the picture.

    Colour goes with the square root of the weight relative to the greatest one: softmax weights are
    so uneven that a linear scale would show a single patch.

    Args:
        weights: `[rows, columns]`, not negative.
    """
    weights = np.nan_to_num(np.asarray(weights, dtype=np.float64))
    level = np.sqrt(weights / max(float(weights.max(initial=0.0)), np.finfo(np.float64).tiny))
    layers = [np.interp(level, RAMP[:, 0], RAMP[:, channel]) for channel in range(1, 5)]
    return Image.fromarray(np.stack(layers, axis=-1).round().astype(np.uint8), "RGBA")


def concentration(weights: np.ndarray) -> tuple[int, int]:
    """How many patches hold half of the weight, and how many there are.

    Args:
        weights: `[rows, columns]`, not negative.
    """
    ordered = np.sort(np.nan_to_num(np.asarray(weights, dtype=np.float64)).ravel())[::-1]
    total = float(ordered.sum())
    if not math.isfinite(total) or total <= 0:
        return 0, ordered.size
    return int(np.searchsorted(np.cumsum(ordered), total / 2 - 1e-9 * total) + 1), ordered.size
