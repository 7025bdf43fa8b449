"""What the commands say about the pictures that they saw."""

import struct
from fractions import Fraction

import numpy as np
from PIL import Image
from video_files import numbered, write_video
from vilamp.cli.describe import frames_as_dict
from vilamp.session import SelectionResult
from vilamp.video import open_video


def described(source):
    frames = open_video(source)
    return frames_as_dict(frames, SelectionResult("", [], [], [f.time for f in frames]))


def test_pixel_shape_and_rotation_that_was_applied(tmp_path):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    path = write_video(tmp_path / "v.mp4", stamps=[0], prepare=prepare)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 16] = struct.pack(">4i", 0, 1 << 16, 0, -1 << 16)
    path.write_bytes(data)
    seen = described(path)
    assert seen["sample_aspect_ratio"] == 16 / 11
    assert seen["rotation"] == 90
    assert (seen["width"], seen["height"]) == (48, 64)


def test_pictures_that_are_as_stored():
    seen = described([Image.fromarray(numbered(0))])
    assert (seen["sample_aspect_ratio"], seen["rotation"]) == (1.0, 0)


def test_rotation_of_an_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert described(tmp_path / "a.png")["rotation"] == 270
