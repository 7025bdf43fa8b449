"""Pictures of frames, small, and as data URIs where a page must need nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from vilamp.video import Frame

THUMBNAIL = (384, 288)
JPEG_QUALITY = 78


def thumbnail(image: np.ndarray, size: tuple[int, int] = THUMBNAIL) -> Image.Image:
    """A small copy that fits into a size, its proportions kept.

    Args:
        image: `[H, W, 3]` uint8 RGB.
        size: most (width, height) in pixels.
    """
    picture = Image.fromarray(image)
    picture.thumbnail(size, Image.Resampling.LANCZOS)
    return picture


def thumbnails_at(
    frames: Iterable[Frame], indices: Collection[int], size: tuple[int, int]
) -> list[Image.Image]:
    """Small copies of some frames, in time order; reading stops after the last of them.

    Args:
        frames: in time order.
        indices: numbers of frames; one that does not come is left out.
        size: most (width, height) in pixels.
    """
    wanted = set(indices)
    found: list[Image.Image] = []
    for frame in frames if wanted else ():
        if frame.index in wanted:
            found.append(thumbnail(frame.image, size))
        if len(found) == len(wanted):
            break
    return found


def jpeg_uri(image: np.ndarray) -> tuple[str, int, int]:
    """A thumbnail as a data URI, with its width and height in pixels.

    Args:
        image: `[H, W, 3]` uint8 RGB.
    """
    picture = thumbnail(image)
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return _uri("image/jpeg", content), picture.width, picture.height


def png_uri(image: Image.Image) -> str:
    """A picture as a data URI without loss."""
    content = io.BytesIO()
    image.save(content, "PNG", optimize=True)
    return _uri("image/png", content)


def _uri(kind: str, content: io.BytesIO) -> str:
    return f"data:{kind};base64,{base64.b64encode(content.getvalue()).decode('ascii')}"
