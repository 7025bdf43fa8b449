"""Single files are read for what they hold, whatever their name: animations, pages, tiles."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from video_files import number_of, numbered
from vilamp.errors import VideoError
from vilamp.video import heif, open_video

DATA = Path(__file__).parent / "data"
GRID, PLAIN = DATA / "grid.avif", DATA / "plain.heic"
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")


def save(path, format, count=6, **options):
    """`count` numbered pictures in one file, of the format and not of the suffix."""
    first, *others = [Image.fromarray(numbered(n)) for n in range(count)]
    if format == "WEBP":
        options["lossless"] = True
    first.save(path, format, save_all=True, append_images=others, **options)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif", "a.apng", "a.jpg", "a"])
@pytest.mark.parametrize("format", ["WEBP", "PNG", "GIF"])
def test_all_pictures_of_an_animation_whatever_its_name(tmp_path, name, format):
    source = open_video(save(tmp_path / name, format, duration=200), fps=5)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [0, 1, 2, 3, 4, 5]
    assert [f.time for f in frames] == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert source.info.duration == pytest.approx(1.2)
    assert source.info.frame_count == 6
    assert source.skipped == []


def test_times_of_an_animated_webp(tmp_path):
    path = save(tmp_path / "a.webp", "WEBP", duration=[500, 100, 0, 10, 1300, 200])
    source = open_video(path, fps=10)
    # no time, and a hundredth of a second, are shown for a tenth, as browsers do
    seen = [number_of(f.image) for f in source]
    assert seen == [0] * 5 + [1, 2, 3] + [4] * 13 + [5] * 2
    assert source.info.duration == 2.3
    assert [f.pts for f in source][:6] == [0, 0, 0, 0, 0, 0.5]
    assert [number_of(f.image) for f in open_video(path, max_frames=2)] == [0, 4]
    keys = open_video(path, fps=10, sampling="keyframes")
    assert [number_of(f.image) for f in keys] == [0, 1, 2, 3, 4, 5]
    assert keys.fingerprint() != source.fingerprint()


def test_pictures_of_a_webp_are_composed(tmp_path):
    base = Image.new("RGBA", (64, 48), (200, 0, 0, 255))
    part = base.copy()
    part.paste((0, 200, 0, 255), (8, 8, 24, 24))
    base.save(
        tmp_path / "a.webp", save_all=True, append_images=[part], duration=1000, lossless=True
    )
    _, second = open_video(tmp_path / "a.webp")
    assert second.image[12, 12].tolist() == [0, 200, 0]
    assert second.image[40, 40].tolist() == [200, 0, 0]


def test_webp_that_is_cut_off_is_one_line(tmp_path):
    path = save(tmp_path / "a.webp", "WEBP", duration=100)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VideoError, match="wanted a WebP animation"):
        open_video(path)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.mp4"])
def test_pages_are_pictures(tmp_path, name):
    source = open_video(save(tmp_path / name, "TIFF"), fps=2)
    assert [number_of(f.image) for f in source] == [0, 1, 2, 3, 4, 5]
    assert [f.time for f in source][-1] == 2.5
    assert source.notes == []


def test_reduced_copies_of_a_page_are_no_pictures(tmp_path):
    pages = [Image.fromarray(numbered(1)), Image.fromarray(numbered(2, 32, 24))]
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert [number_of(f.image) for f in open_video(tmp_path / "a.tif")] == [1]


def test_in_a_folder_an_animation_is_its_first_picture(tmp_path):
    save(tmp_path / "1.webp", "WEBP", duration=100)
    save(tmp_path / "2.png", "PNG", duration=100)
    save(tmp_path / "3.gif", "GIF", duration=100)
    save(tmp_path / "4.tif", "TIFF")
    Image.fromarray(numbered(9)).save(tmp_path / "5.png")
    source = open_video(tmp_path)
    for _ in range(2):
        assert [number_of(f.image) for f in source] == [0, 0, 0, 0, 9]
        (note,) = source.notes
        assert note.startswith("4 pictures (such as 1.webp): of an animation, or of several pages")


@needs_avif
@pytest.mark.parametrize("name", ["a.avif", "a.jpg", "a.mp4", "folder"])
def test_tiled_avif_is_read_whole(tmp_path, name):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "1.avif").write_bytes(GRID.read_bytes())
    else:
        path.write_bytes(GRID.read_bytes())
    (frame,) = open_video(path)
    assert frame.image.shape == (512, 512, 3)
    corners = frame.image[[100, 100, 400, 400], [100, 400, 100, 400]].astype(int)
    right = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]
    assert np.abs(corners - right).max() < 8


@needs_avif
def test_orientation_and_transparency_of_avif(tmp_path):
    picture = Image.new("RGBA", (64, 48), (200, 100, 50, 128))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.avif", exif=exif)
    source = open_video(tmp_path / "a.avif")
    (frame,) = source
    assert frame.image.shape == (64, 48, 3)
    assert source.info.rotation == 90
    assert np.abs(frame.image[30, 20].astype(int) - [100, 50, 25]).max() < 6


@needs_avif
def test_all_pictures_of_an_avif_sequence(tmp_path):
    path = save(tmp_path / "a.png", "AVIF", duration=200)
    assert [number_of(f.image) for f in open_video(path, fps=5)] == [0, 1, 2, 3, 4, 5]


def test_avif_without_a_reader_is_one_line(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(VideoError, match=r"AVIF needs Pillow 11\.3 or newer"):
        open_video(GRID)


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_single_picture_of_heic_is_read(tmp_path, folder):
    (tmp_path / "IMG.HEIC").write_bytes(PLAIN.read_bytes())
    (frame,) = open_video(tmp_path if folder else tmp_path / "IMG.HEIC")
    assert frame.image.shape == (64, 64, 3)
    assert np.abs(frame.image.astype(int) - [200, 0, 0]).max() < 8


def test_tiled_heic_is_one_line(tmp_path):
    # The same boxes around pictures of HEVC.
    data = GRID.read_bytes().replace(b"av01", b"hvc1").replace(b"avif", b"heic")
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(data)
    assert heif.coding(path) == "derived"
    with pytest.raises(VideoError, match=r"HEIC of tiles, .* needs pillow-heif"):
        open_video(path)


@pytest.mark.parametrize("keep", range(0, 741, 37))
def test_damaged_boxes_are_one_line(tmp_path, keep):
    path = tmp_path / "a.avif"
    path.write_bytes(GRID.read_bytes()[:keep])
    with pytest.raises(VideoError):
        open_video(path)
