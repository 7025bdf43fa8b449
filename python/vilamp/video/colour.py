"""Decoded frames of any pixel format to 8-bit RGB, by the colour description in the stream."""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from . import hdr

# Values of AVColorSpace and AVColorRange (ITU-T H.273).
BT709, BT470BG, BT601, BT2020, BT2020_CONSTANT = 1, 5, 6, 9, 10
LIMITED, FULL = 1, 2

# The matrices that the scaler knows: BT.709, FCC, BT.601, SMPTE 240M, BT.2020.
KNOWN_MATRICES = {BT709, 4, BT601, 7, BT2020}

# Other names of these matrices; constant luminance is near enough.
SAME_MATRIX = {BT470BG: BT601, BT2020_CONSTANT: BT2020}

# A matrix is a property of the standard definition or high definition world; players guess by
# size where the stream does not tell.
HD_WIDTH, HD_HEIGHT = 1280, 577

# SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT: every pixel gets its own colour, rounded
# once; the default shares it between neighbours and is off by up to 80 levels at edges.
QUALITY = 0x2 | 0x40000 | 0x2000

BAND_ROWS = 128

# In planes: of 4:2:0, libswscale 9 gives wrong colours as rgb48 wherever a chroma sample is below
# its middle, and takes twice as long. The byte order is that of the machine.
HDR_LAYOUT = "gbrp16"

# Limited range grey to full range.
FROM_LIMITED = np.clip(np.round((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)


class RGBConverter:
    """Converts frames, keeping the scaler between calls."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def __call__(self, frame: av.VideoFrame, transfer: int) -> np.ndarray:
        """A decoded frame as uint8 `[H, W, 3]`, RGB, C-contiguous; alpha is laid over black.

        `transfer` is the AVColorTransferCharacteristic that the decoder states.
        """
        describe(frame)
        name = frame.format.name
        if name.startswith("gray"):
            return self._gray(frame)
        if hdr.is_hdr(transfer):
            return hdr.planes_to_sdr(_planes(self._reformatted(frame, HDR_LAYOUT)), transfer)
        if _has_alpha(frame):
            return _over_black(self._reformatted(frame, "rgba"))
        return self._convert(frame, "rgb24")

    def _convert(self, frame: av.VideoFrame, layout: str) -> np.ndarray:
        return np.ascontiguousarray(self._reformatted(frame, layout).to_ndarray())

    def _reformatted(self, frame: av.VideoFrame, layout: str) -> av.VideoFrame:
        return self._scaler.reformat(
            frame,
            format=layout,
            interpolation=QUALITY,
            src_color_range=frame.color_range,
            dst_color_range=FULL,
            # RGB has none. Up to PyAV 16 matrix and range count only if this one differs.
            dst_colorspace=BT470BG,
        )

    def _gray(self, frame: av.VideoFrame) -> np.ndarray:
        # The scaler takes every grey as full range.
        limited = frame.color_range == LIMITED
        luma = self._convert(frame, "gray")
        if limited:
            luma = FROM_LIMITED[luma]
        return np.repeat(luma[..., None], 3, axis=2)


def _over_black(frame: av.VideoFrame) -> np.ndarray:
    """A frame in the layout "rgba" as uint8 `[H, W, 3]`."""
    height, width = frame.height, frame.width
    # The frame's own memory: a copy of all of it would be as large again.
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
    out = np.empty((height, width, 3), np.uint8)
    # Few rows at a time: the products are twice as large as the picture.
    for top in range(0, height, BAND_ROWS):
        band = rows[top : min(top + BAND_ROWS, height), : 4 * width].reshape(-1, width, 4)
        product = band[..., :3] * band[..., 3:].astype(np.uint16) + 127
        out[top : top + len(band)] = product // 255
    return out


def describe(frame: av.VideoFrame) -> None:
    """Fills in the matrix and range that the stream leaves open or misstates, in place."""
    name = frame.format.name
    if not frame.format.is_rgb:
        matrix = SAME_MATRIX.get(frame.colorspace, frame.colorspace)
        high = frame.width >= HD_WIDTH or frame.height >= HD_HEIGHT
        guess = BT709 if high else BT601
        frame.colorspace = matrix if matrix in KNOWN_MATRICES else guess
    if frame.color_range not in (LIMITED, FULL) and not name.startswith("gray"):
        frame.color_range = FULL if name.startswith("yuvj") else LIMITED


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Red, green and blue of a frame in `HDR_LAYOUT`, uint16 `[H, W]` each, not copied."""
    green, blue, red = (
        np.frombuffer(plane, np.uint16).reshape(-1, plane.line_size // 2)[
            : plane.height, : plane.width
        ]
        for plane in frame.planes
    )
    return [red, green, blue]


def _has_alpha(frame: av.VideoFrame) -> bool:
    return any(component.is_alpha for component in frame.format.components)
