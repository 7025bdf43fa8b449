"""Broken, cut and hostile files: what can be read is read, the rest is reported, nothing leaks."""

import gc
import hashlib
import os
import random
import threading

import av
import numpy as np
import pytest
from video_files import number_of, numbered, write_video
from vilamp.errors import VideoError
from vilamp.video import open_video
from vilamp.video.schedule import on_screen

# Codec, options, and how many bytes a broken packet keeps for the muxer to take it for a picture.
CODECS = {
    "h264.mkv": ("libx264", {"g": "5", "bf": "0"}, 8),
    "h264.ts": ("libx264", {"g": "5", "bf": "2"}, 8),
    "hevc.mkv": ("libx265", {"x265-params": "log-level=none:keyint=5:bframes=0"}, 8),
    "mpeg4.avi": ("mpeg4", {"g": "5"}, 8),
    "vp8.webm": ("libvpx", {"g": "5"}, 0),
    "vp9.webm": ("libvpx-vp9", {"g": "5"}, 0),
    "mpeg2.mkv": ("mpeg2video", {"g": "5"}, 0),
}


def write_broken(path, codec, options, broken, kept=0):
    """A video whose packets at the positions `broken` are noise after `kept` bytes."""
    rng = random.Random(0)

    def spoil(position, packet):
        if position in broken:
            data = bytes(packet)
            packet.update(data[:kept] + rng.randbytes(len(data) - kept))

    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return write_video(path, codec, options=options, pixel_format=pixel_format, per_packet=spoil)


@pytest.mark.parametrize("name", CODECS)
def test_broken_frames_in_the_middle_are_skipped_and_reported(tmp_path, name):
    codec, options, kept = CODECS[name]
    path = write_broken(tmp_path / name, codec, options, range(22, 25), kept)
    source = open_video(path, fps=25)
    frames = list(source)
    assert len(frames) == len(source) == 50
    assert [f.index for f in frames] == list(range(50))
    assert [f.time for f in frames] == pytest.approx([k / 25 for k in range(50)])
    shown = [number_of(frame.image) for frame in frames]
    assert shown[:20] == list(range(20))
    assert shown[30:] == list(range(30, 50)), "the rest still comes"
    assert all(number <= k for k, number in enumerate(shown)), "never a picture from later"
    assert source.skipped
    assert all(0.7 < place.time < 1.3 and place.reason for place in source.skipped)

    if name == "h264.mkv":
        # picture 24 comes out, patched up by the decoder and marked: it is not shown
        damaged = [round(p.time, 4) for p in source.skipped if p.reason == "damaged picture"]
        assert damaged == [24 / 25]
        assert frames[24].pts == pytest.approx(21 / 25)

    before = [(f.index, f.time) for f in frames], list(source.skipped)
    assert ([(f.index, f.time) for f in source], source.skipped) == before


def test_the_last_good_picture_stays_on_screen(tmp_path):
    path = write_broken(tmp_path / "v.avi", "mjpeg", None, [])
    intact = open_video(path, fps=5)
    assert [number_of(f.image) for f in intact] == list(range(0, 50, 5))
    # every packet of MJPEG stands alone: pictures 23 to 26 are lost, 25 is due at 1 s
    path = write_broken(tmp_path / "w.avi", "mjpeg", None, range(23, 27))
    source = open_video(path, fps=5)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [0, 5, 10, 15, 20, 22, 30, 35, 40, 45]
    assert frames[5].time == 1.0
    assert frames[5].pts == pytest.approx(0.88)
    # three that are not sampled, and the one that is, with what became of it
    places = [(round(p.time, 2), p.end and round(p.end, 2), p.count) for p in source.skipped]
    assert places == [(0.92, 1.04, 4), (1.0, None, 1)]


def test_broken_start_is_bridged_by_the_first_whole_picture(tmp_path):
    path = write_broken(tmp_path / "v.avi", "mjpeg", None, range(12))
    source = open_video(path, fps=5)
    frames = list(source)
    assert [number_of(f.image) for f in frames] == [12, 12, 12, *range(15, 50, 5)]
    assert [f.time for f in frames[:4]] == pytest.approx([0, 0.2, 0.4, 0.6])
    (place,) = source.skipped
    assert place.count == 12 and place.time == 0.0 and place.end == pytest.approx(11 / 25)


def test_released_sampling_keeps_its_positions_when_frames_are_broken(tmp_path):
    path = write_broken(tmp_path / "v.mkv", "mjpeg", None, [24, 25])
    source = open_video(path, sampling="released")
    assert [number_of(f.image) for f in source] == [0, 23]
    assert source.skipped


def test_nothing_but_broken_frames_is_an_error(tmp_path):
    path = write_broken(tmp_path / "v.avi", "mjpeg", None, range(50))
    with pytest.raises(VideoError, match="wanted pictures, none could be decoded"):
        open_video(path)


@pytest.mark.parametrize(
    "name", ["v.mkv", "v.ts", "v.flv", "v.h264", "v.mpg", "frag.mp4", "fast.mp4"]
)
def test_cut_off_file_gives_what_it_has(tmp_path, name):
    codec = "mpeg2video" if name == "v.mpg" else "libx264"
    flags = {"frag.mp4": "frag_keyframe+empty_moov", "fast.mp4": "faststart"}.get(name)
    path = write_video(
        tmp_path / name,
        codec,
        options={"g": "5"},
        stamps=range(100),
        size=(160, 120),
        draw=lambda n: numbered(n, 160, 120),
        format_options={"movflags": flags} if flags else None,
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 7 // 10])
    source = open_video(path, fps=5)
    frames = list(source)
    assert 5 <= len(frames) == len(source) < 20
    # program streams stamp only some pictures, which leaves the others within one of the truth
    slack = 1 if name == "v.mpg" else 0
    for k, frame in enumerate(frames[:-1]):
        assert abs(number_of(frame.image) - 5 * k) <= slack
    if name in ("v.mkv", "v.flv", "fast.mp4"):
        assert any("before its header says" in place.reason for place in source.skipped)


def test_cut_off_mp4_without_its_index_is_an_error(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(VideoError, match=r"v\.mp4: wanted a video; not one, damaged, or cut off"):
        open_video(path)


def test_transport_stream_that_starts_in_the_middle(tmp_path):
    path = write_video(tmp_path / "v.ts", options={"g": "20", "bf": "0", "sc_threshold": "0"})
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        positions = [packet.pos for packet in container.demux(stream) if packet.pos]
    data = path.read_bytes()
    path.write_bytes(data[: 188 * 3] + data[positions[10] :])
    source = open_video(path, fps=5)
    # counted from picture 20, the first that can be decoded
    assert [number_of(f.image) for f in source] == [20, 25, 30, 35, 40, 45]


def test_file_that_changes_under_the_reader(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    source = open_video(path)
    write_video(path, stamps=range(30))
    with pytest.raises(VideoError, match="it has changed"):
        list(source)
    path.unlink()
    with pytest.raises(VideoError, match="it is gone"):
        list(source)


def live_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        pytest.skip("counts threads through /proc")


def test_abandoned_iteration_closes_the_decoder(tmp_path):
    path = write_video(tmp_path / "v.mp4", stamps=range(200))
    source = open_video(path, fps=25)
    list(source)
    gc.collect()
    threads, files = live_threads(), len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        iterator = iter(source)
        for _ in range(3):
            next(iterator)
        assert live_threads() > threads
        del iterator
    assert live_threads() == threads
    assert len(os.listdir("/proc/self/fd")) == files


def damaged(data: bytes, rng: random.Random) -> bytes:
    """`data` with bits flipped, a stretch overwritten, zeroed or removed, or its end cut off."""
    spoiled = bytearray(data)
    at = rng.randrange(len(data))
    kind = rng.choice(["flip", "head", "burst", "zero", "remove", "cut"])
    if kind == "flip":
        for _ in range(rng.choice([1, 5, 40])):
            spoiled[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "head":
        spoiled[rng.randrange(min(600, len(data)))] = rng.randrange(256)
    elif kind == "burst":
        spoiled[at : at + 100] = rng.randbytes(rng.randrange(200))
    elif kind == "zero":
        spoiled[at : at + 300] = bytes(len(spoiled[at : at + 300]))
    elif kind == "remove":
        del spoiled[at : at + 300]
    else:
        del spoiled[at:]
    return bytes(spoiled)


@pytest.mark.parametrize(
    "name, codec",
    [
        ("v.mp4", "libx264"),
        ("v.mkv", "libx264"),
        ("v.ts", "mpeg2video"),
        ("v.avi", "mpeg4"),
        ("v.webm", "libvpx-vp9"),
        ("v.h264", "libx264"),
        ("w.mp4", "libsvtav1"),
        ("v.flv", "libx264"),
    ],
)
def test_damaged_files_raise_nothing_but_video_errors(tmp_path, name, codec):
    options = {"preset": "10"} if codec == "libsvtav1" else {"g": "10"}
    data = write_video(tmp_path / f"whole_{name}", codec, options=options).read_bytes()
    path = tmp_path / name
    gc.collect()
    threads = live_threads()
    outcomes = {"read": 0, "refused": 0}
    for seed in range(40):
        path.write_bytes(damaged(data, random.Random(f"{name} {seed}")))
        try:
            source = open_video(path, fps=5, max_frames=100)
            frames = [(f.index, f.time, hashlib.md5(f.image).digest()) for f in source]
        except VideoError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        assert len(frames) == len(source)
        assert [(f.index, f.time) for f in source] == [frame[:2] for frame in frames]
        outcomes["read"] += 1
    assert outcomes["read"] > 5
    source = None
    gc.collect()
    assert live_threads() <= threads
    assert threading.active_count() < 10


def test_schedule_pairs_moments_with_pictures():
    late = []
    pictures = [(0, "a"), (3, "b"), (4, "c"), (9, "d")]
    moments = np.array([0, 2, 4, 6, 8, 10])
    due = np.array([0, 0, 4, 5, 8, 9])
    shown = list(on_screen(moments, due, pictures, lambda *gap: late.append(gap)))
    assert shown == [
        (0, 0, "a"), (1, 0, "a"), (2, 4, "c"), (3, 4, "c"), (4, 4, "c"), (5, 9, "d"),
    ]  # fmt: skip
    assert late == [(5, 4), (8, 4)]
    assert list(on_screen(moments, due, [], lambda *_: None)) == []
