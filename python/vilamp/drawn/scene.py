"""One clip: what is in it, how a frame of it is drawn, and what each patch of a frame shows."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .backgrounds import draw_place
from .palette import COLOUR_NAMES, COLOURS, DIGITS, GLYPHS, LETTERS, PLACES, SHAPES, SIDES
from .shapes import glyph_masks, shape_masks

SPLITS = ("train", "test")
SIZE = 128

# Lengths as a share of the frame's side.
ANCHOR_RADIUS, SIDE_RADIUS, GLYPH_HEIGHT = 0.15, 0.105, 0.27
_LATTICE, _LATTICE_STEP, _PAN = 9, 0.018, 0.12
_DISTANCES = (0.27, 0.285, 0.3)
_CORNERS = ((-1, -1), (1, -1), (-1, 1), (1, 1))
# One question in five, and one layout in five, is kept for testing.
_HELD_OUT = 5

# Roles of a patch, in the order of the class numbers of `patch_labels`.
ROLES = ("none", "anchor", *(word for word, _, _ in SIDES), "flash")


@dataclass(frozen=True)
class Layout:
    """Lattice point of the anchor, step of the distance to its sides, corner of the flash."""

    column: int
    row: int
    distance: int
    corner: int

    @property
    def split(self) -> str:
        held_out = (self.column + 2 * self.row + self.distance + self.corner) % _HELD_OUT == 0
        return "test" if held_out else "train"


@dataclass(frozen=True)
class Clip:
    """A few seconds in one place round one anchor; class numbers index the lists of `palette`."""

    place: int
    colour: int
    shape: int
    side_colours: tuple[int, int, int, int]
    side_shapes: tuple[int, int, int, int]
    glyph: int
    layout: Layout
    seconds: float
    flash_start: float
    flash_end: float
    seed: int

    @property
    def anchor(self) -> tuple[int, int, int]:
        return self.place, self.colour, self.shape

    def flashing(self, time: float) -> bool:
        """Whether the glyph is on screen `time` seconds after the start of the clip."""
        return self.flash_start <= time < self.flash_end


def split_of_anchor(place: int, colour: int, shape: int) -> str:
    """One combination in five is seen in tests only; every place, colour and shape in training."""
    return "test" if (place + 2 * colour + 3 * shape) % _HELD_OUT == 0 else "train"


def sample_clip(rng: np.random.Generator, split: str, *, place: int | None = None) -> Clip:
    """Draw a clip at random among the anchors and layouts of a split.

    Args:
        rng: source of all randomness.
        split: "train" or "test".
        place: class number of the place, any when None.
    Raises:
        ValueError: the split is neither "train" nor "test".
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    while True:
        where = int(rng.integers(len(PLACES))) if place is None else place
        colour, shape = int(rng.integers(len(COLOURS))), int(rng.integers(len(SHAPES)))
        if split_of_anchor(where, colour, shape) == split:
            break
    while True:
        layout = Layout(*(int(rng.integers(n)) for n in (_LATTICE, _LATTICE, len(_DISTANCES), 4)))
        if layout.split == split:
            break
    side_colours = [c for c in rng.permutation(len(COLOURS)).tolist() if c != colour][:4]
    side_shapes = [s for s in rng.permutation(len(SHAPES)).tolist() if s != shape][:4]
    seconds = float(rng.uniform(5, 10))
    # Longer than a second, so that sampling at 1 fps meets it once or twice; never at either end.
    flash = float(rng.uniform(1.05, 1.95))
    start = float(rng.uniform(1.2, seconds - flash - 1.2))
    return Clip(
        place=where,
        colour=colour,
        shape=shape,
        side_colours=tuple(side_colours),
        side_shapes=tuple(side_shapes),
        glyph=int(rng.integers(len(DIGITS) + len(LETTERS))),
        layout=layout,
        seconds=seconds,
        flash_start=start,
        flash_end=start + flash,
        seed=int(rng.integers(2**31)),
    )


def _pieces(clip: Clip, time: float) -> list[tuple[str, float, float]]:
    """(role, x, y) of everything on screen, centres as shares of the side; drifting slowly."""
    motion = np.random.default_rng(clip.seed).uniform(0, 2 * np.pi, 12)
    distance = _DISTANCES[clip.layout.distance]
    middle = (_LATTICE - 1) / 2
    x = 0.5 + (clip.layout.column - middle) * _LATTICE_STEP + 0.02 * np.sin(0.5 * time + motion[0])
    y = 0.5 + (clip.layout.row - middle) * _LATTICE_STEP + 0.02 * np.sin(0.4 * time + motion[1])
    pieces = [("anchor", x, y)]
    for i, (word, dx, dy) in enumerate(SIDES):
        wobble = 0.012 * np.sin(0.8 * time + motion[2 + 2 * i : 4 + 2 * i])
        pieces.append((word, x + dx * distance + wobble[0], y + dy * distance + wobble[1]))
    if clip.flashing(time):
        dx, dy = _CORNERS[clip.layout.corner]
        pieces.append(("flash", x + dx * distance * 0.93, y + dy * distance * 0.93))
    return pieces


@lru_cache(maxsize=4)
def _place_of(place: str, seed: int, size: int) -> np.ndarray:
    return draw_place(place, seed, size, pan=round(_PAN * size))


def _masks(clip: Clip, role: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    border = max(1, round(size / 96))
    if role == "flash":
        return glyph_masks(GLYPHS[clip.glyph], round(GLYPH_HEIGHT * size), 2 * border)
    if role == "anchor":
        return shape_masks(SHAPES[clip.shape], round(ANCHOR_RADIUS * size), 2 * border)
    side = ROLES.index(role) - 2
    return shape_masks(SHAPES[clip.side_shapes[side]], round(SIDE_RADIUS * size), border)


def _window(mask: np.ndarray, x: float, y: float, size: int) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the frame that a mask centred at (x, y) covers, then of the mask."""
    top, left = round(y * size - mask.shape[0] / 2), round(x * size - mask.shape[1] / 2)
    bottom, right = min(size, top + mask.shape[0]), min(size, left + mask.shape[1])
    first, start = max(0, top), max(0, left)
    return (
        slice(first, bottom),
        slice(start, right),
        slice(first - top, bottom - top),
        slice(start - left, right - left),
    )


def clip_frame(clip: Clip, time: float, size: int = SIZE) -> np.ndarray:
    """The frame `time` seconds after the start of the clip: uint8 RGB [size, size, 3]."""
    wide = _place_of(PLACES[clip.place], clip.seed, size)
    shift = round((0.5 + 0.5 * np.sin(0.3 * time + clip.seed % 7)) * (wide.shape[1] - size))
    frame = wide[:, shift : shift + size].copy()
    tint = np.random.default_rng(clip.seed + 1).normal(0, 9, (6, 3)).astype(np.float32)
    for role, x, y in _pieces(clip, time):
        inner, grown = _masks(clip, role, size)
        if role == "flash":
            fill, line = np.float32([255, 255, 255]), np.float32([0, 0, 0])
        elif role == "anchor":
            fill, line = np.float32(COLOURS[COLOUR_NAMES[clip.colour]]), np.float32([255, 255, 255])
        else:
            side = ROLES.index(role) - 2
            fill = np.float32(COLOURS[COLOUR_NAMES[clip.side_colours[side]]])
            line = np.float32([30, 30, 30])
        if role != "flash":
            fill = fill + tint[ROLES.index(role) - 1]
        rows, columns, mask_rows, mask_columns = _window(grown, x, y, size)
        outer, core = grown[mask_rows, mask_columns, None], inner[mask_rows, mask_columns, None]
        part = frame[rows, columns]
        part += (line - part) * outer
        part += (fill - part) * core
    return np.clip(frame, 0, 255).astype(np.uint8)


def patch_labels(clip: Clip, time: float, grid: int, size: int = SIZE) -> np.ndarray:
    """Role of each patch, a class number of `ROLES`, as int64 [grid, grid].

    A patch belongs to the piece that covers most of it, if that is at least a sixth of its area;
    a glyph counts with its border. What else a patch shows follows from its role and the clip.
    """
    cover = np.zeros((len(ROLES), size, size), np.float32)
    for role, x, y in _pieces(clip, time):
        _, grown = _masks(clip, role, size)
        rows, columns, mask_rows, mask_columns = _window(grown, x, y, size)
        cover[ROLES.index(role), rows, columns] = grown[mask_rows, mask_columns]
    step = size // grid
    share = cover.reshape(len(ROLES), grid, step, grid, step).mean((2, 4))
    role = share.argmax(0)
    return np.where(share.max(0) >= 1 / 6, role, 0)
