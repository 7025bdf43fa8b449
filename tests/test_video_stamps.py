"""Right picture at the right time in files whose stamps break: read from the pixels."""

from pathlib import Path

import av
import numpy as np
import pytest
from mp4_boxes import with_edits
from video_files import number_of, numbered, write_video
from video_stamps import restamped
from vilamp.video import open_video

RATE, SECOND = 25, 90_000
DATA = Path(__file__).parent / "data"


def numbers(path):
    return [number_of(frame.image) for frame in open_video(path, fps=RATE)]


@pytest.fixture(scope="module", params=["0", "2"], ids=["no-b-frames", "b-frames"])
def stream(request, tmp_path_factory):
    """200 pictures in MPEG-TS."""
    path = tmp_path_factory.mktemp("ts") / "video.ts"
    options = {"bf": request.param, "g": "50"}
    return write_video(path, options=options, stamps=range(200)).read_bytes()


def changed(number, pts, dts):
    def change(n, old_pts, old_dts):
        return (old_pts + pts, old_dts + dts) if n == number else (old_pts, old_dts)

    return change


@pytest.mark.parametrize(
    "pts, dts",
    [(-5, -5), (5, 5), (36_000, 36_000), (5, 0), (-5, 0), (36_000, 0), (0, 5), (0, -5)],
)
@pytest.mark.parametrize("at", [60, 101, 190])
def test_one_wrong_stamp_costs_at_most_its_picture(tmp_path, stream, at, pts, dts):
    path = tmp_path / "wrong.ts"
    path.write_bytes(restamped(stream, changed(at, pts * SECOND, dts * SECOND)))
    source = open_video(path, fps=RATE)
    found = [number_of(frame.image) for frame in source]
    assert len(found) == 200 and source.info.duration == pytest.approx(8.0)
    assert sum(a != b for a, b in zip(found, range(200), strict=True)) <= 1
    assert source.skipped == []
    # A wrong DTS beside a right PTS changes no picture's time.
    assert len(source.notes) <= 1 and all("replaced" in note for note in source.notes)
    assert source.notes or pts == 0


@pytest.mark.parametrize("length", [3, 20])
def test_short_recordings_put_one_after_the_other(tmp_path, length):
    whole = b""
    for part in range(3):
        path = tmp_path / "part.ts"
        write_video(path, stamps=range(length), draw=lambda n, part=part: numbered(50 * part + n))
        whole += path.read_bytes()
    path = tmp_path / "whole.ts"
    path.write_bytes(whole)
    wanted = [50 * part + n for part in range(3) for n in range(length)]
    source = open_video(path, fps=RATE)
    assert [number_of(frame.image) for frame in source] == wanted
    (note,) = source.notes
    assert "2 more recordings were appended" in note


@pytest.mark.parametrize("name, codec", [("a.mkv", "libx264"), ("a.webm", "libvpx")])
def test_no_picture_is_lost_or_invented_at_a_seam(tmp_path, name, codec):
    first = write_video(tmp_path / name, codec, stamps=range(40))
    second = write_video(
        tmp_path / f"b{name}", codec, stamps=range(40), draw=lambda n: numbered(n + 100)
    )
    both = tmp_path / f"both{name}"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    assert numbers(both) == [*range(40), *range(100, 140)]


def test_a_jump_ahead_is_bridged_in_mpeg_ts_and_kept_in_mp4(tmp_path, stream):
    path = tmp_path / "jump.ts"
    late = 10_800 * SECOND
    path.write_bytes(restamped(stream, lambda n, p, d: (p + late, d + late) if n > 99 else (p, d)))
    source = open_video(path, fps=RATE)
    assert [number_of(frame.image) for frame in source] == list(range(200))
    (note,) = source.notes
    assert "bridged a jump of 3 h ahead" in note

    stamps = [*range(20), *range(20 + 60 * RATE, 40 + 60 * RATE)]
    source = open_video(write_video(tmp_path / "gap.mp4", stamps=stamps), fps=RATE)
    found = [number_of(frame.image) for frame in source]
    assert found == [*range(20), *[19] * 60 * RATE, *range(20, 40)]
    (note,) = source.notes
    assert "kept a gap of 1" in note and "the picture before stays" in note


EDITS = {
    "swapped": [(2000, 4 * 12_800, 1), (2000, 0, 1)],
    "twice the same": [(1000, 12_800, 1), (1000, 12_800, 1)],
    "many": [(400, 12_800 * n, 1) for n in range(5)],
    "one picture for three seconds": [(3000, 2 * 12_800, 0), (2000, 0, 1)],
    "a gap at the start": [(1000, -1, 1), (2000, 12_800, 1)],
}


@pytest.mark.parametrize("name", EDITS)
def test_edit_lists_give_what_libav_gives(tmp_path, name):
    whole = write_video(tmp_path / "whole.mp4", options={"bf": "0", "g": "25"}, stamps=range(150))
    path = tmp_path / "edits.mp4"
    path.write_bytes(with_edits(whole.read_bytes(), EDITS[name]))
    shown = decoded(path)
    source = open_video(path, fps=RATE)
    end = shown[-1][0] + 1 / RATE - shown[0][0]
    assert source.info.duration == pytest.approx(end, abs=0.001)
    times = np.array([time for time, _ in shown]) - shown[0][0]
    on_screen = np.searchsorted(times, np.arange(len(source)) / RATE + 0.001, side="right") - 1
    assert [number_of(frame.image) for frame in source] == [shown[at][1] for at in on_screen]
    assert source.skipped == []


@pytest.mark.parametrize("name", EDITS)
def test_edit_lists_inside_groups_of_b_frames(tmp_path, name):
    """libav shows two pictures at once, or none for one or two, where two edits meet."""
    whole = write_video(tmp_path / "whole.mp4", options={"bf": "2", "g": "25"}, stamps=range(150))
    path = tmp_path / "edits.mp4"
    path.write_bytes(with_edits(whole.read_bytes(), EDITS[name]))
    shown = decoded(path)
    source = open_video(path, fps=RATE)
    end = shown[-1][0] + 1 / RATE - shown[0][0]
    assert abs(source.info.duration - end) < (len(EDITS[name]) + 0.5) / RATE
    found = [number_of(frame.image) for frame in source]
    pictures = [number for at, number in enumerate(found) if at == 0 or number != found[at - 1]]
    assert pictures == [number for _, number in shown]


def decoded(path):
    """Times and numbers of the pictures of a plain decode."""
    with av.open(str(path)) as container:
        shown = sorted(container.decode(video=0), key=lambda frame: frame.pts)
        return [(float(f.time), number_of(f.to_ndarray(format="rgb24"))) for f in shown]


def blocks(image):
    """The number in a picture of the files in `tests/data`: bits as blocks of 32 x 24."""
    bits = image[12::24, 16::32].mean(-1).ravel()[:14] > 128
    return int((bits << np.arange(14)).sum())


def test_a_program_stream_with_few_stamps_keeps_its_pause():
    """H.264 in MPEG-PS, a stamp for every 30 pictures or so; pictures 100 to 174 are left out."""
    path = DATA / "few_stamps.mpg"
    with av.open(str(path)) as container:
        stamped = [packet.pts is not None for packet in container.demux(video=0) if packet.size]
    assert 0 < sum(stamped) < len(stamped) / 4
    found = [blocks(frame.image) for frame in open_video(path, fps=RATE)]
    assert found == [*range(100), *[99] * 75, *range(175, 250)]


def test_raw_mpeg1_is_never_late(tmp_path):
    path = write_video(
        tmp_path / "raw.m1v",
        "mpeg1video",
        options={"bf": "2"},
        stamps=range(100),
        format="mpeg1video",
    )
    assert numbers(path) == list(range(100))


def test_packed_b_frames_are_never_late():
    """MPEG-4 in AVI: two pictures in one packet and an empty one after it."""
    source = open_video(DATA / "packed_b_frames.avi", fps=RATE)
    assert [blocks(frame.image) for frame in source] == list(range(100))


def test_broken_places_are_ranges(tmp_path):
    """However many pictures are damaged in a row, they are one entry for each reason."""

    def spoil(number, packet):
        if 20 <= number < 120:
            packet.update(bytes(packet.size))

    path = write_video(
        tmp_path / "v.avi", "mjpeg", stamps=range(150), pixel_format="yuvj420p", per_packet=spoil
    )
    source = open_video(path, fps=RATE)
    list(source)
    place, *others = source.skipped
    assert place.count == 100 and len(others) <= 1
    assert (place.time, place.end) == (pytest.approx(20 / RATE), pytest.approx(119 / RATE))
