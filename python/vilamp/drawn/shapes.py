"""Coverage masks of the ten shapes and of the flashing glyphs, cached by size in pixels."""

from functools import lru_cache

import numpy as np

from .palette import GLYPHS, SHAPES

# Sub-pixels per pixel and axis; masks are averaged down, which smooths the edges.
_FINE = 4

# 5 x 7 dot-matrix glyphs, one row of five dots per group.
_DOTS = {
    "0": "01110 10001 10011 10101 11001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00100 01000 01000 01000",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "c": "01110 10001 10000 10000 10000 10001 01110",
    "e": "11111 10000 10000 11110 10000 10000 11111",
    "h": "10001 10001 10001 11111 10001 10001 10001",
    "k": "10001 10010 10100 11000 10100 10010 10001",
    "l": "10000 10000 10000 10000 10000 10000 11111",
    "p": "11110 10001 10001 11110 10000 10000 10000",
    "t": "11111 00100 00100 00100 00100 00100 00100",
    "u": "10001 10001 10001 10001 10001 10001 01110",
    "x": "10001 10001 01010 00100 01010 10001 10001",
    "y": "10001 10001 01010 00100 00100 00100 00100",
}


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which points of the square [-1, 1]^2 (y down) belong to the shape."""
    radius = np.hypot(x, y)
    if shape == "circle":
        return radius <= 0.95
    if shape == "square":
        return np.maximum(abs(x), abs(y)) <= 0.82
    if shape == "triangle":
        return (y <= 0.8) & (2 * abs(x) <= y + 1.0)
    if shape == "star":
        angle = np.arctan2(x, -y)
        sector = np.abs((angle + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
        # Straight edge from a tip at radius 1 to a notch at radius 0.42, in polar form.
        tip, notch = 1.05, 0.42
        a, b = notch * np.sin(np.pi / 5), tip - notch * np.cos(np.pi / 5)
        return radius * (a * np.cos(sector) + b * np.sin(sector)) <= tip * a
    if shape == "cross":
        return np.minimum(abs(x), abs(y)) <= 0.3
    if shape == "ring":
        return (radius <= 1.0) & (radius >= 0.52)
    if shape == "moon":
        return (radius <= 0.98) & (np.hypot(x - 0.5, y) >= 0.8)
    if shape == "heart":
        lobes = np.hypot(abs(x) - 0.45, y + 0.35) <= 0.5
        return lobes | ((y >= -0.35) & (abs(x) * 1.2 + y * 0.95 <= 0.88))
    if shape == "diamond":
        return abs(x) * 1.45 + abs(y) <= 1.0
    if shape == "hourglass":
        return (abs(y) <= 0.95) & (abs(x) <= 0.12 + 0.8 * abs(y))
    raise ValueError(f"unknown shape {shape!r}, wanted one of {', '.join(SHAPES)}")


def _shrink(fine: np.ndarray) -> np.ndarray:
    height, width = fine.shape[0] // _FINE, fine.shape[1] // _FINE
    return fine.reshape(height, _FINE, width, _FINE).mean((1, 3)).astype(np.float32)


@lru_cache(maxsize=4096)
def shape_masks(shape: str, radius: int, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of a shape and of the shape grown by a border.

    Args:
        shape: one of `SHAPES`.
        radius: half the side of the shape's box, in pixels.
        border: width of the outline, in pixels.
    Returns:
        Two float32 arrays [2r+1, 2r+1] with r = radius + border, values 0 to 1: the shape alone,
        and the shape with its border.
    """
    reach = radius + border
    steps = (np.arange((2 * reach + 1) * _FINE) + 0.5) / _FINE - reach - 0.5
    x, y = np.meshgrid(steps / radius, steps / radius)
    square = np.maximum(abs(x), abs(y)) <= 1.0
    inner = _inside(shape, x, y) & square
    grown = np.zeros_like(inner)
    for turn in np.linspace(0, 2 * np.pi, 12, endpoint=False):
        dx, dy = round(np.cos(turn) * border * _FINE), round(np.sin(turn) * border * _FINE)
        grown |= np.roll(inner, (dy, dx), (0, 1))
    return _shrink(inner.astype(np.float32)), _shrink((grown | inner).astype(np.float32))


@lru_cache(maxsize=4096)
def glyph_masks(glyph: str, height: int, border: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage of a glyph of the given height in pixels, and of the same with a border round it."""
    if glyph not in GLYPHS:
        raise ValueError(f"unknown glyph {glyph!r}, wanted one of {''.join(GLYPHS)}")
    dots = np.array([[c == "1" for c in row] for row in _DOTS[glyph].split()])
    width = max(1, round(height * 5 / 7))
    rows = (np.arange(height * _FINE) * 7 // (height * _FINE)).clip(0, 6)
    columns = (np.arange(width * _FINE) * 5 // (width * _FINE)).clip(0, 4)
    inner = np.pad(dots[rows][:, columns], border * _FINE)
    grown = np.zeros_like(inner)
    for dy in range(-border * _FINE, border * _FINE + 1, max(1, _FINE // 2)):
        for dx in range(-border * _FINE, border * _FINE + 1, max(1, _FINE // 2)):
            grown |= np.roll(inner, (dy, dx), (0, 1))
    return _shrink(inner.astype(np.float32)), _shrink(grown.astype(np.float32))
