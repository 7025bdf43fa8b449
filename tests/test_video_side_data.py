"""Pictures that carry more than pixels: EXIF of cameras, in MJPEG video and in animations."""

import io
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image, ImageOps
from video_files import require_encoder
from vilamp.video import open_video, orientation

QUARTERS = np.zeros((48, 64, 3), np.uint8)
QUARTERS[:24, :32] = 250, 0, 0
QUARTERS[:24, 32:] = 0, 250, 0
QUARTERS[24:, :32] = 0, 0, 250


def jpeg(orientation=None, camera="Camera"):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    if camera:
        exif[0x010F] = camera
    content = io.BytesIO()
    picture = Image.fromarray(QUARTERS)
    picture.save(content, "JPEG", exif=exif, quality=95, subsampling=0)
    return content.getvalue()


def write_mjpeg(path, pictures):
    """JPEG files as they are, as the packets of a video of 25 a second."""
    require_encoder("mjpeg")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj444p"
        for number, data in enumerate(pictures):
            packet = av.Packet(data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["v.avi", "v.mkv", "v.mov"])
def test_exif_in_a_video_of_jpeg_pictures(tmp_path, name):
    source = open_video(write_mjpeg(tmp_path / name, [jpeg()] * 5), fps=25)
    frames = list(source)
    assert len(frames) == 5 and source.skipped == []
    assert np.abs(frames[4].image.astype(int) - QUARTERS).mean() < 2


def test_exif_that_begins_later(tmp_path):
    plain = jpeg(camera=None)
    path = write_mjpeg(tmp_path / "v.avi", [plain] * 3 + [jpeg()] * 2 + [plain])
    source = open_video(path, fps=25)
    assert [frame.pts for frame in source] == [n / 25 for n in range(6)]
    assert source.skipped == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_in_a_video_is_followed(tmp_path, orientation):
    data = jpeg(orientation)
    source = open_video(write_mjpeg(tmp_path / "v.avi", [data] * 2))
    (frame,) = source
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert frame.image.shape == upright.shape
    assert np.abs(frame.image.astype(int) - upright).mean() < 2
    assert (source.info.height, source.info.width) == upright.shape[:2]


def test_orientation_may_change(tmp_path):
    path = write_mjpeg(tmp_path / "v.avi", [jpeg(1), jpeg(6)])
    assert [f.image.shape for f in open_video(path, fps=25)] == [(48, 64, 3), (64, 48, 3)]


def test_exif_in_an_animated_png(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    pictures = [Image.fromarray(QUARTERS), Image.fromarray(QUARTERS[::-1].copy())]
    pictures[0].save(
        tmp_path / "a.png", save_all=True, append_images=pictures[1:], exif=exif, duration=1000
    )
    frames = list(open_video(tmp_path / "a.png"))
    assert [np.array_equal(f.image, QUARTERS) for f in frames] == [True, False]


@pytest.mark.parametrize("degrees, shown", [(0, 0), (90, 270), (-90, 90), (180, 180), (-179, 180)])
def test_turn_behind_side_data_without_a_name(monkeypatch, degrees, shown):
    """The binding stops at a kind that it cannot name: then it still tells the angle."""

    class Unnamed(dict):
        def __init__(self, frame):
            raise ValueError("31 is not a valid Type")

    monkeypatch.setattr(orientation, "SideDataContainer", Unnamed)
    found = orientation.orientation_of(SimpleNamespace(rotation=degrees))
    assert found.degrees == shown
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(found.apply(picture), np.rot90(picture, -shown // 90))
    assert np.array_equal(found.stored(found.apply(picture)), picture)
