"""Images of every mode that Pillow has: depth, range, transparency, and the memory they take."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from vilamp.errors import VideoError
from vilamp.video import open_video

RAMP = np.linspace(0, 1, 32 * 32).reshape(32, 32)
LEVELS = np.round(RAMP * 255)


def only(source):
    (frame,) = source
    assert source.skipped == []
    return frame.image


def distance(image, levels):
    return np.abs(image.astype(int) - np.asarray(levels)[..., None]).max()


@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "list"])
@pytest.mark.parametrize(
    "values",
    [
        (RAMP * 65535).astype(np.int32),
        (RAMP * 4e9 - 2e9).astype(np.int32),
        RAMP.astype(np.float32),
        (RAMP * 6e38 - 3e38).astype(np.float32),
        (RAMP * 1e-3 - 7).astype(np.float32),
    ],
    ids=["16 of 32 bits", "negative", "0 to 1", "huge", "far from 0"],
)
def test_integers_and_floats_fill_the_range(tmp_path, values, in_memory):
    image = Image.fromarray(values)
    image.save(tmp_path / "a.tif")
    source = open_video([image] if in_memory else tmp_path / "a.tif")
    assert distance(only(source), LEVELS) <= 1
    (note,) = source.notes
    assert "32-bit integers or floats, scaled" in note
    assert in_memory or "a.tif" in note or source.info.path.endswith("a.tif")


def test_numbers_that_are_not_finite(tmp_path):
    values = RAMP.astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = only(open_video([Image.fromarray(values)]))
        nothing = only(open_video([Image.fromarray(np.full((4, 4), np.nan, np.float32))]))
    assert image[0, :3, 0].tolist() == [0, 255, 0]
    # The values that were replaced were the least ones.
    assert distance(image[1:], LEVELS[1:]) <= 2
    assert not nothing.any()


@pytest.mark.parametrize("mode", ["I", "F"])
@pytest.mark.parametrize("value, level", [(0, 0), (153, 153), (70000, 255), (-5, 0)])
def test_equal_values_are_levels(mode, value, level):
    assert (only(open_video([Image.new(mode, (5, 4), value)])) == level).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_sixteen_bits_keeps_its_scale(tmp_path, name):
    # Half of the range stays half: a 16-bit level has a meaning of its own.
    values = (RAMP * 32767).astype(np.uint16)
    image = Image.fromarray(values.astype(np.int32) if name == "a.pgm" else values)
    image.save(tmp_path / name)
    source = open_video(tmp_path / name)
    assert distance(only(source), np.round(RAMP * 127)) <= 1
    assert source.notes == []


def test_lab(tmp_path):
    Image.new("LAB", (4, 4), (200, 128, 128)).save(tmp_path / "a.tif")
    image = only(open_video(tmp_path / "a.tif")).astype(int)
    assert np.ptp(image) <= 4 and 180 < image.mean() < 205


@pytest.mark.parametrize("mode", ["PA", "La", "RGBa", "HSV", "YCbCr", "RGBX", "I;16B"])
def test_modes_that_no_file_has(mode):
    assert only(open_video([Image.new(mode, (5, 4))])).shape == (4, 5, 3)


def test_transparency_without_a_channel_of_its_own():
    grey = Image.fromarray(np.array([[7 * 257, 9 * 257]], np.uint16))
    grey.info["transparency"] = 9 * 257
    assert only(open_video([grey]))[0, :, 0].tolist() == [7, 0]
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 200, 30])
    palette.info["transparency"] = bytes([255, 128])
    assert np.abs(only(open_video([palette])).astype(int) - [5, 100, 15]).max() <= 1


def test_large_pictures_are_converted_in_bands():
    """As wide as high as they are turned, in several bands."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (700, 1100, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    assert np.array_equal(only(open_video([image])), np.rot90(pixels, -1))


def webp_of(width, height):
    """A whole lossless WebP of one colour, of any size, that takes a few bytes."""
    content = io.BytesIO()
    Image.new("RGB", (width, height)).save(content, "WEBP", lossless=True)
    return content.getvalue()


def test_what_would_take_too_much_memory_is_not_unpacked(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", progressive=True, subsampling=0)
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", 8192, 8192)
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(VideoError, match="8192 x 8192 JPEG pixels would take 832 MiB"):
        open_video(tmp_path)
    data = bytearray(webp_of(8, 8))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = (8191 | 8191 << 14).to_bytes(4, "little")
    (tmp_path / "a.webp").write_bytes(data)
    with pytest.raises(VideoError, match="8192 x 8192 WEBP pixels would take"):
        open_video(tmp_path / "a.webp")


def test_huge_canvas_of_an_animation_is_refused(tmp_path):
    frames = [Image.new("RGBA", (8, 8), (9, 9, n, 255)) for n in range(2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    data = bytearray((tmp_path / "a.png").read_bytes())
    at = data.index(b"IHDR")
    data[at + 4 : at + 12] = struct.pack(">II", 8192, 8192)
    data[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(data[at : at + 17]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(VideoError, match="at most 33554432 pixels, got 8192 x 8192"):
        open_video(tmp_path / "a.png")
