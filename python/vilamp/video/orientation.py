"""Turns a picture upright by the display matrix that cameras and phones write."""

from __future__ import annotations

from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

MATRIX_BYTES = 36


class Orientation(NamedTuple):
    """Transpose first, then mirror left-right and upside down."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    @property
    def degrees(self) -> int:
        """Turn clockwise in degrees (a mirrored picture: the turn without the mirror)."""
        if self.transpose:
            return 90 if self.mirror else 270
        return 180 if self.flip else 0

    def apply(self, image: np.ndarray) -> np.ndarray:
        """`[H, W, 3]` as stored to `[H, W, 3]` or `[W, H, 3]` upright, C-contiguous."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(self._mirrored(image))

    def stored(self, upright: np.ndarray) -> np.ndarray:
        """A view of an upright picture, `[H, W, 3]` or `[W, H, 3]`, as it is stored."""
        image = self._mirrored(upright)
        return image.transpose(1, 0, 2) if self.transpose else image

    def _mirrored(self, image: np.ndarray) -> np.ndarray:
        if self.mirror:
            image = image[:, ::-1]
        return image[::-1] if self.flip else image


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The nearest quarter turn, with mirroring, of the frame's display matrix.

    libav makes one of the EXIF orientation of JPEG pictures too.
    """
    # Not `frame.side_data`: that one and the frame refer to each other, and the picture would take
    # memory until Python looks for such cycles, after a few hundred pictures.
    side = SideDataContainer.__new__(SideDataContainer)
    try:
        side.__init__(frame)
        all_named = True
    except ValueError:
        # A kind of side data that the binding has no name for; what came before it is held.
        all_named = False
    found = side.get("DISPLAYMATRIX")
    data = bytes(found) if found is not None else b""
    if len(data) < MATRIX_BYTES:
        return Orientation() if all_named else _turn(frame.rotation)
    # x' = a x + c y, y' = b x + d y in 16.16 fixed point (ISO 14496-12, matrix of tkhd).
    a, b, _, c, d = (int(v) for v in np.frombuffer(data, dtype=np.int32)[:5])
    if a * d == b * c:
        return Orientation()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def _turn(degrees: int) -> Orientation:
    """The nearest quarter turn to so many degrees counterclockwise, -180 to 180."""
    return {
        1: Orientation(True, False, True),
        2: Orientation(False, True, True),
        3: Orientation(True, True, False),
    }.get(round(degrees / 90) % 4 if abs(degrees) <= 180 else 0, Orientation())
