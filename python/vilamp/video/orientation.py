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
        if self.mirror:
            image = image[:, ::-1]
        if self.flip:
            image = image[::-1]
        return np.ascontiguousarray(image)


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The nearest quarter turn, with mirroring, of the frame's display matrix."""
    # Not `frame.side_data`: that one and the frame refer to each other, and the picture would take
    # memory until Python looks for such cycles, after a few hundred pictures.
    side = SideDataContainer(frame).get("DISPLAYMATRIX")
    data = bytes(side) if side is not None else b""
    if len(data) < MATRIX_BYTES:
        return Orientation()
    # x' = a x + c y, y' = b x + d y in 16.16 fixed point (ISO 14496-12, matrix of tkhd).
    a, b, _, c, d = (int(v) for v in np.frombuffer(data, dtype=np.int32)[:5])
    if a * d == b * c:
        return Orientation()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)
