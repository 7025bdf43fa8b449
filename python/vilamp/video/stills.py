"""One picture from an image file that nobody vouches for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, features

from ..sizes import size_text
from . import heif
from .container import MAX_PIXELS
from .rgb import Still, to_rgb

SUFFIXES = {
    *(".jpg", ".jpeg", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".heic", ".heif"),
}

# Named, so that formats whose readers run other programs (PostScript) are never tried.
# The reader of JPEG is that of MPO too. HEIF has a reader only where pillow-heif is registered.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "HEIF")

# Bytes that reading one picture may take, the 3 bytes per pixel of its RGB included. What a few
# kilobytes of file unpack to stays below it.
MAX_BYTES = 600 * 10**6

# Bytes per pixel that these readers hold beside the RGB: their canvases and copies of them.
WEBP_BYTES, AVIF_BYTES = 14, 9

ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT, BITS, SAMPLES = 278, 322, 323, 258, 277

FIRST_OF_SEVERAL = "of an animation, or of several pages, only the first is taken"

NO_AVIF = "AVIF needs Pillow 11.3 or newer, built with libavif"
NO_HEIC = (
    "HEIC of tiles, turned, cropped or with transparency needs pillow-heif: convert it to JPEG, or "
    "open it with pillow_heif and hand over the PIL image"
)

# Pillow's readers raise nearly anything over damaged files.
BROKEN = Exception


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The image at `path`, not decoded yet.

    Raises:
        ValueError: reading it would take more than `MAX_BYTES`, or this installation cannot read
            its format.
        Exception: Pillow raises errors of many kinds over damaged files.
    """
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    if heif.is_still(path):
        if heif.coding(path) == "av01":
            if "AVIF" not in formats or not features.check("avif"):
                raise ValueError(NO_AVIF)
        elif "HEIF" not in formats:
            raise ValueError(NO_HEIC)
    with Image.open(path, formats=formats) as image:
        check_cost(image)
        yield image


def read_still(path: Path) -> Still:
    """The first picture of an image file; raises what `opened` raises."""
    if heif.is_still(path) and heif.coding(path) == "hvc1" and "HEIF" not in Image.OPEN:
        return heif.read_single(path)
    with opened(path) as image:
        several = getattr(image, "is_animated", False) and image.format != "MPO"
        still = to_rgb(image)
    return still._replace(remarks=(*still.remarks, FIRST_OF_SEVERAL)) if several else still


def check_cost(image: Image.Image) -> None:
    """Raises `ValueError` where unpacking an image would take too much memory."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} is more than {MAX_PIXELS} pixels")
    need = pixels * (3 + _bytes_per_pixel(image))
    if need > MAX_BYTES:
        raise ValueError(
            f"reading {image.width} x {image.height} {image.format} pixels would take "
            f"{size_text(round(need))}, more than {size_text(MAX_BYTES)}"
        )


def _bytes_per_pixel(image: Image.Image) -> float:
    """What Pillow and the reader hold per pixel."""
    held = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    if image.format == "WEBP":
        return WEBP_BYTES
    if image.format in ("AVIF", "HEIF"):
        return AVIF_BYTES
    if image.format in ("JPEG", "MPO") and image.info.get("progressive"):
        # 16-bit coefficients of the whole picture.
        layers = image.layer
        most = max(h for _, h, _, _ in layers) * max(v for _, _, v, _ in layers)
        return held + 2 * sum(h * v for _, h, v, _ in layers) / most
    if image.format == "TIFF":
        tags = image.tag_v2
        stored = sum(tags.get(BITS, (8,))) / 8
        if len(tags.get(BITS, (8,))) < tags.get(SAMPLES, 1):
            stored *= tags[SAMPLES]
        width = tags.get(TILE_WIDTH, image.width)
        height = tags.get(TILE_HEIGHT, min(tags.get(ROWS_PER_STRIP, math.inf), image.height))
        return held + stored * width * height / (image.width * image.height)
    return held
