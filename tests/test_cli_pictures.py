"""What the commands say about the pictures that they saw."""

import struct
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from video_files import numbered, write_video
from vilamp.cache import Cache
from vilamp.cli.describe import frames_as_dict
from vilamp.frame_store import FrameStore
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


def test_notes_about_pictures_come_from_the_cache_too(tmp_path):
    model = SimpleNamespace(
        config=SimpleNamespace(
            vision_config=SimpleNamespace(image_size=8),
            clip_config=SimpleNamespace(projection_dim=4),
        ),
        device=torch.device("cpu"),
        selector_fingerprint=lambda: "weights",
    )
    cache = Cache(tmp_path)
    images = [Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8))]
    first = FrameStore(open_video(images), model, 0, cache)
    (note,) = first.notes
    assert "32-bit integers" in note
    first.keep_embeddings(torch.zeros(1, 4), [0.0])
    # A second one that has read nothing yet.
    source = open_video(images)
    source._remarks = {}
    second = FrameStore(source, model, 0, cache)
    assert second.notes == []
    assert second.embeddings() is not None
    assert second.notes == [note]
