"""Decoding only what the samples need, and sampling by keyframes: against decoding everything."""

from __future__ import annotations

import numpy as np
import pytest
from test_video_time import FORMATS
from video_files import number_of, write_video
from vilamp.cli.app import run
from vilamp.errors import InputError
from vilamp.video import open_video
from vilamp.video.file import CAREFUL, FAST, SHORT
from vilamp.video.references import References, Unclear

LONG = range(240)
H264 = {
    "plain": {},
    "bframes": {"bf": "3", "g": "30"},
    "pyramid": {"x264-params": "bframes=5:b-pyramid=normal:keyint=50:scenecut=0"},
    "open-gop": {"x264-params": "open-gop=1:keyint=20:bframes=3:scenecut=0"},
    "slices": {"x264-params": "slices=4:bframes=2:keyint=40"},
    "refresh": {"intra-refresh": "1", "g": "20"},
    "no-deblock": {"x264-params": "no-deblock=1:ref=4:bframes=3"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("short")


def noisy(number: int) -> np.ndarray:
    """A moving picture with noise, so that a missing reference would show."""
    rng = np.random.default_rng(number)
    picture = np.full((48, 64, 3), 60 + number % 120, np.uint8)
    at = number % 40
    picture[at : at + 8, at : at + 20] = 230
    return picture + rng.integers(0, 12, picture.shape, dtype=np.uint8)


def whole(path, **options) -> list[np.ndarray]:
    """The frames where every picture is decoded."""
    source = open_video(path, **options)
    source._way = FAST
    frames = [frame.image for frame in source]
    assert source._way == FAST
    return frames


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "h264"])
@pytest.mark.parametrize("name", H264)
def test_the_same_to_the_bit(folder, name, container):
    path = folder / f"{name}.{container}"
    write_video(path, options=H264[name], stamps=LONG, draw=noisy)
    for options in ({}, {"fps": 3}, {"fps": 25}, {"fps": 0.3}, {"sampling": "released"}):
        source = open_video(path, **options)
        frames = [frame.image for frame in source]
        expected = whole(path, **options)
        assert len(frames) == len(expected) == len(source)
        for got, want in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", ["bframes", "pyramid"])
def test_pictures_that_nobody_needs_are_not_decoded(folder, name):
    path = write_video(folder / f"fewer-{name}.mp4", options=H264[name], stamps=LONG, draw=noisy)
    source = open_video(path)
    assert source._way == SHORT
    assert len(list(source)) == 10 and source._way == SHORT
    assert source._needed.sum() < 0.75 * len(LONG)
    # Each picture is a sample: all are decoded.
    assert open_video(path, fps=25)._needed.all()


@pytest.mark.parametrize("name", ["fields.ts", "hevc.mp4", "mpeg4.avi"])
def test_what_is_not_understood_is_decoded_whole(folder, name):
    codec, options = FORMATS[name]
    source = open_video(write_video(folder / name, codec, options=options))
    assert source._needed is None and source._way == FAST


def test_damage_leads_to_the_careful_way(folder):
    path = write_video(folder / "damaged.mp4", options={"bf": "2"}, stamps=LONG, draw=noisy)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(bytes(content))
    source = open_video(path)
    frames = list(source)
    assert len(frames) == len(source) == 10
    assert source._way == CAREFUL


class StandIn:
    """A stream of which only the codec is looked at."""

    def __init__(self, extradata: bytes, name: str = "h264"):
        self.codec_context = self
        self.extradata, self.name = extradata, name


@pytest.mark.parametrize(
    "extradata",
    [
        b"\x01\x64\x00\x1f\xff\xe1\xff\xff\x67",
        b"\x01\x64\x00\x1f\xff\xe1\x00\x00\x67",
        b"\x00\x00\x00\x01\x67",
        b"\x00\x00\x01\x67" + b"\x00" * 5000,
        b"\x00\x00\x01\x67\x64\x00\x1f" + b"\x00" * 40,
    ],
)
def test_parameters_that_make_no_sense(extradata):
    with pytest.raises(Unclear):
        References(StandIn(extradata))


def test_other_codecs_are_unclear():
    with pytest.raises(Unclear):
        References(StandIn(b"", "hevc"))


# --- keyframes


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "hevc.mp4", "vp8.webm", "vp9.webm"])
def test_keyframes_of_the_video(folder, name):
    codec, options = FORMATS[name]
    more = {"g": "20", "keyint_min": "20", "sc_threshold": "0"}
    if codec == "libx265":
        options, more = {"x265-params": "log-level=none:keyint=20:scenecut=0:open-gop=0"}, {}
    path = write_video(folder / f"keys-{name}", codec, options={**options, **more}, stamps=LONG)
    source = open_video(path, sampling="keyframes")
    frames = list(source)
    assert len(frames) == len(source) == 10 and source.skipped == []
    # One per second at most; each is the picture that is shown at its time.
    every = {round(frame.time, 2): frame.image for frame in open_video(path, fps=25)}
    assert [frame.index for frame in frames] == list(range(10))
    for frame in frames:
        assert round(frame.time * 25) % 20 == 0
        assert number_of(frame.image) == number_of(every[round(frame.time, 2)])


def test_every_picture_a_keyframe(folder):
    path = write_video(folder / "all.avi", "mjpeg", pixel_format="yuvj420p", stamps=LONG)
    times = [frame.time for frame in open_video(path, sampling="keyframes")]
    # The last one of each second, not all 240.
    assert len(times) == 11 and times == sorted(set(times))
    assert len(open_video(path, sampling="keyframes", max_frames=4)) == 4


def test_keyframes_on_the_command_line(folder, capsys):
    path = write_video(folder / "cli.mp4", options={"g": "50"}, stamps=LONG)
    options = ["--sampling", "keyframes", "--no-cache", "--json"]
    assert run(["select", str(path), "red star", *options]) == 0
    assert run(["select", str(path), "red star", "--sampling", "often"]) == 2
    assert "keyframes" in capsys.readouterr().err


def test_an_unknown_sampling(folder):
    path = write_video(folder / "unknown.mp4")
    with pytest.raises(InputError, match="keyframes"):
        open_video(path, sampling="often")
