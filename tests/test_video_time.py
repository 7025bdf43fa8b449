"""Which picture is shown when: sampling by presentation time, whatever the container."""

from fractions import Fraction

import av
import numpy as np
import pytest
from video_files import number_of, numbered, require_encoder, write_video
from vilamp.errors import InputError
from vilamp.video import open_video

FORMATS = {
    "h264.mp4": ("libx264", {"bf": "3"}),
    "h264.mov": ("libx264", {"bf": "3"}),
    "h264.mkv": ("libx264", {"bf": "3"}),
    "h264.ts": ("libx264", {"bf": "3"}),
    "h264.avi": ("libx264", {"bf": "3"}),
    "h264.asf": ("libx264", {"bf": "3"}),
    "h264.flv": ("libx264", {"bf": "3"}),
    "raw.h264": ("libx264", {"bf": "3"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none"}),
    "hevc.mkv": ("libx265", {"x265-params": "log-level=none"}),
    "raw.hevc": ("libx265", {"x265-params": "log-level=none"}),
    "vp8.webm": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9.webm": ("libvpx-vp9", {"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "av1.webm": ("libsvtav1", {"preset": "10"}),
    "av1.mp4": ("libsvtav1", {"preset": "10"}),
    "mpeg2.mpg": ("mpeg2video", {"bf": "2"}),
    "mpeg2.ts": ("mpeg2video", {"bf": "2"}),
    "mpeg4.avi": ("mpeg4", {"bf": "2"}),
    "wmv2.wmv": ("wmv2", {}),
    "open-gop.mkv": ("libx264", {"x264-params": "open-gop=1:keyint=10:bframes=3"}),
    "refresh.ts": ("libx264", {"intra-refresh": "1", "g": "10"}),
    "fields.ts": ("libx264", {"x264-params": "tff=1"}),
    "mpeg4.mp4": ("mpeg4", {"bf": "2"}),
    "mjpeg.avi": ("mjpeg", {}),
    "ffv1.mkv": ("ffv1", {}),
}


def numbers(source) -> list[int]:
    return [number_of(frame.image) for frame in source]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.mark.parametrize("name", FORMATS)
def test_frames_of_every_codec_and_container(folder, name):
    codec, options = FORMATS[name]
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(folder / name, codec, options=options, pixel_format=pixel_format)

    source = open_video(path)
    frames = list(source)
    assert [frame.time for frame in frames] == [0.0, 1.0]
    assert [frame.index for frame in frames] == [0, 1]
    assert [frame.pts for frame in frames] == pytest.approx([0.0, 1.0], abs=2e-3)
    assert numbers(frames) == [0, 25]
    assert len(source) == 2
    assert source.skipped == []
    assert source.info.duration == pytest.approx(2.0, abs=2e-3)
    assert (source.info.width, source.info.height) == (64, 48)
    assert source.info.frame_rate == pytest.approx(25)

    # 7 per second: the newest picture at k / 7
    assert numbers(open_video(path, fps=7)) == [int(25 * k / 7 + 1e-9) for k in range(14)]
    # every picture once, in order, for each way of asking
    assert numbers(open_video(path, fps=25)) == list(range(50))
    assert numbers(open_video(path, sampling="released")) == [0, 25]


def test_image_arrays_are_what_they_promise(folder):
    frame = next(iter(open_video(write_video(folder / "plain.mp4"))))
    assert frame.image.shape == (48, 64, 3)
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous


def test_each_iteration_starts_again_with_the_same_frames(folder):
    source = open_video(write_video(folder / "again.mp4"), fps=5)
    first = list(source)
    iterator = iter(source)
    next(iterator)
    second = list(source)
    assert [(f.index, f.time, f.pts) for f in first] == [(f.index, f.time, f.pts) for f in second]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_variable_frame_rate_shows_what_is_on_screen(folder):
    # thousandths: pictures 0..4 appear at 0, 0.4, 2.5, 2.6 and 6.2 s
    stamps = [0, 400, 2500, 2600, 6200]
    path = write_video(folder / "vfr.mkv", stamps=stamps, rate=1000)
    source = open_video(path)
    frames = list(source)
    assert [frame.time for frame in frames] == list(range(len(source)))
    assert numbers(frames)[:7] == [0, 1, 1, 3, 3, 3, 3]
    assert [frame.pts for frame in frames][:7] == pytest.approx([0, 0.4, 0.4, 2.6, 2.6, 2.6, 2.6])
    assert len(source) == len(frames) >= 7


@pytest.mark.parametrize("name", ["start.mkv", "start.ts", "start.mp4"])
def test_time_counts_from_the_first_picture(folder, name):
    path = write_video(folder / name, stamps=range(250, 300))
    frames = list(open_video(path, fps=5))
    assert [frame.time for frame in frames] == pytest.approx([k / 5 for k in range(10)])
    assert numbers(frames) == list(range(0, 50, 5))


@pytest.mark.parametrize("name", ["negative.mkv", "negative.ts", "wrapped.flv"])
def test_negative_timestamps(folder, name):
    path = write_video(
        folder / name,
        "libx264" if name.endswith("flv") else "mpeg4",
        stamps=range(-30, 20),
        format_options={"avoid_negative_ts": "disabled"},
    )
    with av.open(str(path)) as container:
        start = container.streams.video[0].start_time
    # FLV stores them as unsigned: they wrap to the far future
    assert start > 1 << 30 if name.endswith("flv") else start < 0
    frames = list(open_video(path, fps=5))
    assert numbers(frames) == list(range(0, 50, 5))
    assert frames[0].time == 0.0


def cut_by_edit_list(path, out, start, length):
    """Copies `path` with an edit list that shows only `length` s from `start` s on."""
    data = path.read_bytes()
    with av.open(str(path)) as container:
        media_scale = container.streams.video[0].time_base.denominator
    position = data.index(b"elst") + 8
    assert int.from_bytes(data[position : position + 4], "big") == 1
    position += 4
    movie_scale = 1000
    offset = int.from_bytes(data[position + 4 : position + 8], "big", signed=True)
    entry = int(length * movie_scale).to_bytes(4, "big")
    entry += (offset + int(start * media_scale)).to_bytes(4, "big")
    out.write_bytes(data[:position] + entry + data[position + 8 :])
    return out


def test_edit_list_hides_what_it_cuts_off(folder):
    whole = write_video(folder / "whole.mp4", options={"bf": "2", "g": "50"})
    path = cut_by_edit_list(whole, folder / "cut.mp4", start=0.4, length=1.0)
    source = open_video(path, fps=5)
    assert numbers(source) == [10, 15, 20, 25, 30]
    assert len(source) == 5


def test_no_duration_in_the_header(folder):
    path = folder / "live.mkv"
    with path.open("wb") as file:
        # A pipe cannot go back to fill in the duration.
        pipe = type("Pipe", (), {"write": staticmethod(file.write)})()
        with av.open(pipe, "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(50):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number))))
            container.mux(stream.encode())
    with av.open(str(path)) as container:
        assert container.duration is None
    source = open_video(path, fps=5)
    assert len(source) == 10
    assert numbers(source) == list(range(0, 50, 5))
    assert source.info.duration == pytest.approx(2.0)
    assert source.skipped == []


def test_appended_transport_streams_play_one_after_the_other(folder):
    first = write_video(folder / "a.ts")
    second = write_video(folder / "b.ts", draw=lambda n: numbered(100 + n))
    both = folder / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    source = open_video(both, fps=5)
    assert numbers(source) == [*range(0, 50, 5), *range(100, 150, 5)]
    assert len(source) == 20


def test_ntsc_rate_takes_the_newest_picture_of_each_second(folder):
    path = folder / "ntsc.mp4"
    require_encoder("libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30000, 1001))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(number))))
        container.mux(stream.encode())
    frames = list(open_video(path))
    # 30000 / 1001 pictures a second: at 1 s the 30th has not come yet
    assert numbers(frames) == [0, 29, 59, 89]
    assert [frame.time for frame in frames] == [0, 1, 2, 3]


def test_stamps_rounded_to_milliseconds_still_hit_their_moment(folder):
    path = write_video(folder / "round.mkv", rate=60, stamps=range(120))
    assert numbers(open_video(path, fps=3)) == [0, 20, 40, 60, 80, 100]
    assert numbers(open_video(path, fps=60)) == list(range(120))


def test_max_frames_thins_evenly_before_decoding(folder):
    source = open_video(write_video(folder / "thin.mp4"), fps=5, max_frames=4)
    frames = list(source)
    # 10 samples, truncated linspace: 0, 3, 6, 9
    assert numbers(frames) == [0, 15, 30, 45]
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.6, 1.2, 1.8])
    assert len(source) == 4


def test_one_picture_is_one_frame(folder):
    source = open_video(write_video(folder / "one.mp4", stamps=[0]))
    assert len(source) == len(list(source)) == 1


def test_slow_sampling_of_a_short_video_gives_the_first_picture(folder):
    assert numbers(open_video(write_video(folder / "slow.mp4"), fps=0.1)) == [0]


def test_batches(folder):
    source = open_video(write_video(folder / "batches.mp4"), fps=5)
    batches = list(source.batches(4))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert [frame.index for batch in batches for frame in batch] == list(range(10))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "x"])
def test_unusable_rate(folder, fps):
    with pytest.raises(InputError, match="fps: wanted"):
        open_video(write_video(folder / "rate.mp4", stamps=[0]), fps=fps)


def test_unusable_settings(folder):
    path = write_video(folder / "settings.mp4", stamps=[0])
    with pytest.raises(InputError, match="sampling: wanted one of time, released"):
        open_video(path, sampling="random")
    with pytest.raises(InputError, match="max_frames: wanted at least 1"):
        open_video(path, max_frames=0)


def test_fingerprint_follows_content_and_sampling(folder):
    path = write_video(folder / "print.mp4")
    other = write_video(folder / "other.mp4", stamps=range(49))
    copy = folder / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    assert open_video(path).fingerprint() == open_video(copy).fingerprint()
    assert open_video(path).fingerprint() != open_video(other).fingerprint()
    assert open_video(path).fingerprint() != open_video(path, fps=2).fingerprint()
    assert open_video(path).fingerprint() != open_video(path, sampling="released").fingerprint()
