"""PIL images of any mode to 8-bit RGB, a band of rows at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from .container import MAX_PIXELS
from .orientation import Orientation

# Pixels that are converted at a time: few, since the copies on the way take up to 24 bytes each.
BAND_PIXELS = 1 << 18


# How a picture is brought upright, by its EXIF orientation.
UPRIGHT = {
    2: Orientation(mirror=True),
    3: Orientation(mirror=True, flip=True),
    4: Orientation(flip=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, mirror=True),
    7: Orientation(transpose=True, mirror=True, flip=True),
    8: Orientation(transpose=True, flip=True),
}

# Formats whose grey of more than 8 bits older versions of Pillow hand over as 32-bit integers.
SIXTEEN_BIT_FORMATS = {"PNG", "PPM"}

SCALED = "32-bit integers or floats, scaled from the least value to the greatest"


class Still(NamedTuple):
    """One picture: uint8 `[H, W, 3]`, upright, the turn that was applied, and remarks about it."""

    image: np.ndarray
    orientation: Orientation = Orientation()
    remarks: tuple[str, ...] = ()


def to_rgb(image: Image.Image) -> Still:
    """Upright by EXIF, alpha laid over black, 16-bit grey scaled to 8.

    32-bit integers and floats are scaled from the least value of the picture to the greatest; NaN
    becomes black. Where all values are equal they are taken for levels of 0 to 255.

    Raises:
        ValueError: more than `MAX_PIXELS`, or a mode that cannot be shown.
        Exception: Pillow raises errors of many kinds over damaged files.
    """
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} is more than {MAX_PIXELS} pixels")
    if not width * height:
        raise ValueError(f"{width} x {height} has no pixels")
    image.load()
    turn = _orientation(image)
    remarks = ()
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS):
        convert = _from_16_bits
    elif image.mode in ("I", "F"):
        low, high = _range(image)
        remarks = (SCALED,)

        def convert(band: Image.Image) -> np.ndarray:
            return _scaled(band, low, high)
    else:
        convert = _from_levels
    out = np.empty((width, height, 3) if turn.transpose else (height, width, 3), np.uint8)
    # Written through a view that is as the file stores it: turning takes no copy.
    stored = turn.stored(out)
    for top, band in _bands(image):
        pixels = convert(band)
        # One channel of grey fills all three.
        stored[top : top + band.height] = pixels if pixels.ndim == 3 else pixels[..., None]
    return Still(out, turn, remarks)


def _orientation(image: Image.Image) -> Orientation:
    # Not ImageOps.exif_transpose: that writes all of the EXIF anew, and fails over any bad entry.
    try:
        return UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation), Orientation())
    except Exception:
        # EXIF that cannot be read, in any of the ways that Pillow has of saying so.
        return Orientation()


def _bands(image: Image.Image):
    """The first row of each band, and the band."""
    rows = max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _from_levels(band: Image.Image) -> np.ndarray:
    if band.mode == "LAB":
        return np.asarray(_from_lab(band))
    if band.mode == "La":
        band = band.convert("LA")
    if band.has_transparency_data or band.mode == "RGBa":
        rgba = band.convert("RGBA")
        black = Image.new("RGB", band.size)
        black.paste(rgba, (0, 0), rgba)
        return np.asarray(black)
    return np.asarray(band if band.mode == "L" else band.convert("RGB"))


def _from_16_bits(band: Image.Image) -> np.ndarray:
    values = np.asarray(band)
    levels = (values >> 8).astype(np.uint8)
    clear = band.info.get("transparency")
    if isinstance(clear, int):
        levels[values == clear] = 0
    return levels


def _from_lab(band: Image.Image) -> Image.Image:
    from PIL import ImageCms

    return ImageCms.applyTransform(band, _lab_to_srgb())


@lru_cache(maxsize=1)
def _lab_to_srgb():
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


def _range(image: Image.Image) -> tuple[float, float]:
    """Least and greatest finite value; 0 and 0 where there is none."""
    low, high = np.inf, -np.inf
    for _, band in _bands(image):
        values = np.asarray(band)
        least, greatest = float(values.min()), float(values.max())
        # NaN comes through both.
        if not (np.isfinite(least) and np.isfinite(greatest)):
            values = values[np.isfinite(values)]
            least, greatest = values.min(initial=np.inf), values.max(initial=-np.inf)
        low, high = min(low, float(least)), max(high, float(greatest))
    return (low, high) if low <= high else (0.0, 0.0)


def _scaled(band: Image.Image, low: float, high: float) -> np.ndarray:
    values = np.asarray(band).astype(np.float64)
    if low < high:
        values -= low
        values *= 255 / (high - low)
    values += 0.5
    # The greater of NaN and 0 is 0 with fmax.
    np.fmin(np.fmax(values, 0, out=values), 255, out=values)
    return values.astype(np.uint8)
