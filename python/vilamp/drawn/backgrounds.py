"""Twelve textured places, each drawn once per clip, a little wider than the frame: it can pan."""

from collections.abc import Callable

import numpy as np
from PIL import Image

Grid = np.ndarray
Rng = np.random.Generator


def _noise(rng: Rng, shape: tuple[int, int], cells: int) -> Grid:
    """Smooth noise [h, w] in 0..1 with about `cells` bumps along the height."""
    height, width = shape
    small = rng.random((cells + 2, max(2, cells * width // height) + 2), dtype=np.float32)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _mix(low, high, weight: Grid) -> Grid:
    """Blend two RGB colours by a weight [h, w]."""
    weight = np.clip(weight, 0, 1)[..., None]
    return np.asarray(low, np.float32) * (1 - weight) + np.asarray(high, np.float32) * weight


def _forest(rng, x, y):
    trunks = np.sin(x * rng.uniform(38, 48) + 2 * _noise(rng, x.shape, 4)) > 0.55
    leaves = _noise(rng, x.shape, 14)
    return np.where(
        trunks[..., None],
        _mix((60, 40, 20), (85, 60, 30), leaves),
        _mix((15, 55, 20), (50, 105, 40), leaves),
    )


def _desert(rng, x, y):
    dunes = np.sin((y * rng.uniform(4, 6) + 0.35 * np.sin(x * 5 + rng.uniform(0, 6))) * 2 * np.pi)
    return _mix((190, 150, 95), (225, 195, 140), dunes * 0.5 + 0.5)


def _ocean(rng, x, y):
    waves = np.sin(y * 60 + 2.5 * np.sin(x * rng.uniform(14, 22) + rng.uniform(0, 6)))
    return _mix(
        (10, 70, 120), (60, 135, 165), 0.5 + 0.3 * waves + 0.3 * (_noise(rng, x.shape, 5) - 0.5)
    )


def _snow(rng, x, y):
    ground = _mix((195, 205, 220), (232, 236, 244), _noise(rng, x.shape, 4))
    flakes = rng.random(x.shape) < 0.03
    return np.where(flakes[..., None], np.float32([150, 165, 195]), ground)


def _city(rng, x, y):
    columns = (x * rng.uniform(5, 7)).astype(int)
    towers = rng.uniform(0.1, 0.6, columns.max() + 1)[columns]
    windows = (np.sin(x * 110) > 0.1) & (np.sin(y * 95) > 0.1)
    walls = np.where(windows[..., None], np.float32([170, 160, 110]), np.float32([80, 80, 92]))
    return np.where((y > towers)[..., None], walls, np.float32([135, 140, 155]))


def _meadow(rng, x, y):
    grass = _mix((95, 150, 50), (140, 190, 80), _noise(rng, x.shape, 20))
    flowers = _noise(rng, x.shape, 26) > 0.86
    return np.where(flowers[..., None], np.float32([230, 225, 150]), grass)


def _cave(rng, x, y):
    rock = _noise(rng, x.shape, 7) * 0.6 + _noise(rng, x.shape, 18) * 0.4
    return _mix((42, 34, 34), (105, 88, 80), rock)


def _sky(rng, x, y):
    clouds = _noise(rng, x.shape, 4) * 0.7 + _noise(rng, x.shape, 9) * 0.3
    return _mix((105, 165, 225), (215, 225, 238), (clouds - 0.45) * 3)


def _volcano(rng, x, y):
    cracks = np.abs(_noise(rng, x.shape, 6) - 0.5)
    return _mix((200, 75, 20), (52, 25, 25), cracks * 9)


def _kitchen(rng, x, y):
    count = rng.uniform(6, 8)
    tiles = ((x * count).astype(int) + (y * count).astype(int)) % 2
    grout = (np.abs((x * count) % 1 - 0.5) > 0.45) | (np.abs((y * count) % 1 - 0.5) > 0.45)
    board = _mix((150, 175, 170), (205, 215, 205), tiles.astype(np.float32))
    return np.where(grout[..., None], np.float32([120, 130, 130]), board)


def _library(rng, x, y):
    shelf = (y * 4) % 1
    books = (x * rng.uniform(22, 28)).astype(int) + 100 * (y * 4).astype(int)
    tone = rng.random((books.max() + 1, 1)).astype(np.float32)[books]
    spines = np.float32([95, 55, 40]) * (1 - tone) + np.float32([160, 115, 75]) * tone
    return np.where((shelf > 0.82)[..., None], np.float32([60, 38, 22]), spines)


def _night(rng, x, y):
    stars = rng.random(x.shape) < 0.012
    glow = _mix((14, 14, 48), (42, 34, 90), y * 0.7 + 0.3 * _noise(rng, x.shape, 4))
    return np.where(stars[..., None], np.float32([225, 225, 200]), glow)


_PAINTERS: dict[str, Callable[[Rng, Grid, Grid], Grid]] = {
    "forest": _forest,
    "desert": _desert,
    "ocean": _ocean,
    "snow": _snow,
    "city": _city,
    "meadow": _meadow,
    "cave": _cave,
    "sky": _sky,
    "volcano": _volcano,
    "kitchen": _kitchen,
    "library": _library,
    "night": _night,
}


def draw_place(place: str, seed: int, size: int, pan: int) -> np.ndarray:
    """One place as float32 RGB [size, size + pan, 3], 0 to 255; same seed, same picture."""
    rng = np.random.default_rng(seed)
    steps = (np.arange(size + pan) + 0.5) / size
    x, y = np.meshgrid(steps, steps[:size])
    picture = _PAINTERS[place](rng, x.astype(np.float32), y.astype(np.float32))
    return np.asarray(picture, np.float32) * np.float32(rng.uniform(0.88, 1.08))
