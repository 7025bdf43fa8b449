"""Folders of images, PIL images and arrays as sources of frames."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from video_files import number_of, numbered
from vilamp.errors import VideoError
from vilamp.preprocess import clip_pixels, seen_by_clip, siglip_pixels
from vilamp.sweeps import decoded
from vilamp.video import open_video


def write_images(folder, names, size=(64, 48)):
    folder.mkdir()
    for number, name in enumerate(names):
        Image.fromarray(numbered(number, *size)).save(folder / name)
    return folder


def test_folder_in_natural_order(tmp_path):
    names = ["f1.png", "f2.png", "f3.jpg", "f10.png", "f11.webp", "f100.bmp"]
    folder = write_images(tmp_path / "images", names)
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "more").mkdir()
    source = open_video(folder)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [0, 1, 2, 3, 4, 5]
    assert [f.time for f in frames] == [0, 1, 2, 3, 4, 5]
    assert source.info.duration == 6
    assert source.info.codec == "images"
    assert source.skipped == []
    assert len(source) == 6


def test_one_image_is_one_frame(tmp_path):
    folder = write_images(tmp_path / "images", ["a.png"])
    assert [number_of(f.image) for f in open_video(folder / "a.png")] == [0]


def test_rate_and_cap(tmp_path):
    images = [Image.fromarray(numbered(n)) for n in range(10)]
    frames = list(open_video(images, fps=4))
    assert [number_of(f.image) for f in frames] == list(range(10))
    assert [f.time for f in frames] == [n / 4 for n in range(10)]
    assert [number_of(f.image) for f in open_video(images, max_frames=4)] == [0, 3, 6, 9]
    released = open_video(images, fps=4, sampling="released")
    assert [number_of(f.image) for f in released] == [0, 4, 8]


@pytest.mark.parametrize("kind", ["array", "tensor", "pil"])
def test_pictures_in_memory(kind):
    array = np.stack([numbered(n) for n in range(5)])
    source = {
        "array": array,
        "tensor": torch.from_numpy(array),
        "pil": [Image.fromarray(a) for a in array],
    }[kind]
    opened = open_video(source)
    assert (opened.info.width, opened.info.height) == (64, 48)
    for _ in range(2):
        frames = list(opened)
        assert all(np.array_equal(f.image, a) for f, a in zip(frames, array, strict=True))
        # what a consumer does to a frame does not reach the source
        frames[0].image[...] = 0
    assert [f.index for f in frames] == [0, 1, 2, 3, 4]
    assert all(f.image.flags.c_contiguous for f in frames)


def test_strided_array_is_read_in_place():
    array = np.stack([numbered(n) for n in range(6)])[::2, ::-1]
    assert [number_of(f.image) for f in open_video(array)] == [0, 2, 4]


def test_each_picture_keeps_its_own_size():
    images = [Image.fromarray(numbered(0)), Image.fromarray(numbered(5, 200, 50))]
    source = open_video(images)
    frames = list(source)
    assert (source.info.width, source.info.height) == (64, 48)
    assert frames[0].image.shape == (48, 64, 3)
    assert np.array_equal(frames[1].image, numbered(5, 200, 50))


def test_towers_see_each_picture_from_its_own_size():
    sizes = [(64, 48), (200, 50), (64, 48), (30, 90)]
    images = [numbered(n, *size) for n, size in enumerate(sizes)]
    source = open_video([Image.fromarray(image) for image in images])
    for resize in (
        lambda frames: siglip_pixels(frames, 32),
        lambda frames: clip_pixels(frames, 32, (0.5,) * 3, (0.25,) * 3),
    ):
        seen = torch.cat([batch.pixels for batch in decoded(source, 3, resize)])
        assert torch.equal(seen, resize(images))


@pytest.mark.parametrize("size", [(2, 400), (400, 2), (401, 3), (64, 1), (48, 64)])
def test_a_sliver_among_the_pictures_is_no_obstacle(size):
    image = numbered(5, *size)
    seen = seen_by_clip(image)
    assert clip_pixels([seen], 8, (0.5,) * 3, (0.25,) * 3).shape == (1, 3, 8, 8)
    if max(size) <= 64 * min(size):
        assert seen.shape == image.shape


def test_exif_orientation_and_transparency(tmp_path):
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(picture).save(folder / "1.png", exif=exif)
    (frame,) = open_video(folder)
    # orientation 6: turned right, so the bright left half is on top
    assert frame.image.shape == (40, 20, 3)
    assert (frame.image[:20] == 255).all() and (frame.image[20:] == 0).all()

    for turn in range(1, 9):
        turned = Image.fromarray(picture)
        turned.getexif()[0x0112] = turn
        (frame,) = open_video([turned])
        assert np.array_equal(frame.image, np.asarray(ImageOps.exif_transpose(turned)))

    clear = Image.new("RGBA", (8, 8), (200, 100, 50, 0))
    clear.putpixel((0, 0), (200, 100, 50, 255))
    (frame,) = open_video([clear])
    assert frame.image[0, 0].tolist() == [200, 100, 50]
    assert (frame.image[1:] == 0).all()


def test_bad_exif_does_not_hide_a_picture():
    picture = Image.new("RGB", (40, 20), (9, 9, 9))
    # A resolution that is text, next to an orientation that is to be followed.
    picture.getexif().update({0x0112: 6, 0x011A: "much"})
    (frame,) = open_video([picture])
    assert frame.image.shape == (40, 20, 3)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "I;16", "LA"])
def test_other_modes(mode):
    # a grey that the palette of PIL has
    image = Image.new("RGB", (8, 6), (153, 153, 153)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.full((6, 8), 153 * 257, np.uint16))
    (frame,) = open_video([image])
    assert frame.image.shape == (6, 8, 3)
    # one bit leaves black and white
    assert mode == "1" or np.abs(frame.image.astype(int) - 153).max() <= 3


def test_broken_image_is_replaced_and_reported(tmp_path):
    folder = write_images(tmp_path / "images", [f"{n}.png" for n in range(5)])
    (folder / "0.png").write_bytes(b"not a png")
    data = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(data[: len(data) // 2])
    source = open_video(folder)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [1, 1, 2, 2, 4]
    assert [f.time for f in frames] == [0, 1, 2, 3, 4]
    assert [place.time for place in source.skipped] == [0, 3]
    assert len(source) == 5


def test_folder_without_images(tmp_path):
    with pytest.raises(VideoError, match="wanted a folder of images, found none in it"):
        open_video(tmp_path)


def test_folder_of_broken_images(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no")
    with pytest.raises(VideoError, match="wanted pictures, none could be read"):
        open_video(tmp_path)


def test_disguised_formats_are_not_tried(tmp_path):
    (tmp_path / "1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(VideoError, match="wanted pictures, none could be read"):
        open_video(tmp_path)


@pytest.mark.parametrize(
    "source, message",
    [
        (np.zeros((2, 4, 4, 3), np.float32), r"wanted uint8 \[N, H, W, 3\], got float32"),
        (np.zeros((4, 4, 3), np.uint8), r"got uint8 \[4, 4, 3\]"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), r"got uint8 \[2, 3, 4, 4\]"),
        (np.zeros((0, 4, 4, 3), np.uint8), "wanted at least one picture, got none"),
        (np.zeros((2, 0, 4, 3), np.uint8), "wanted pixels"),
        ([], "wanted at least one picture, got none"),
        (["a.png"], "item 0 is a str"),
    ],
)
def test_unusable_pictures(source, message):
    with pytest.raises(VideoError, match=message):
        open_video(source)


def test_huge_image_is_not_unpacked(tmp_path):
    Image.new("1", (8, 8)).save(tmp_path / "huge.png")
    data = bytearray((tmp_path / "huge.png").read_bytes())
    at = data.index(b"IHDR")
    data[at + 4 : at + 12] = struct.pack(">II", 9_000, 9_000)
    data[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(data[at : at + 17]))
    (tmp_path / "huge.png").write_bytes(data)
    with pytest.raises(VideoError, match="9000 x 9000 is more than 67108864"):
        open_video(tmp_path)


def test_fingerprint_follows_the_pictures(tmp_path):
    first = write_images(tmp_path / "a", ["1.png", "2.png"])
    second = write_images(tmp_path / "b", ["1.png", "2.png"])
    assert open_video(first).fingerprint() == open_video(second).fingerprint()
    Image.fromarray(numbered(9)).save(second / "2.png")
    assert open_video(first).fingerprint() != open_video(second).fingerprint()
    array = np.stack([numbered(n) for n in range(3)])
    assert open_video(array).fingerprint() == open_video(array.copy()).fingerprint()
    assert open_video(array).fingerprint() != open_video(array[:2]).fingerprint()
    images = [Image.fromarray(a) for a in array]
    assert open_video(images).fingerprint() != open_video(images[::-1]).fingerprint()
