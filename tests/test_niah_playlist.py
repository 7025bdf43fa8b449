"""Segments of files as one video: the frames, their times, and the same as one real file."""

import pytest
import torch
from niah_files import STEP, needle, numbered_video, small_cases
from vilamp import InputError, VideoError
from vilamp.niah.cases import Cases
from vilamp.niah.planning import Grid, Haystack, Source, plan
from vilamp.niah.playlist import Opened, Playlist, Segment
from vilamp.niah.render import render_cases
from vilamp.video import open_video


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return (
        numbered_video(folder / "long.mp4", 30, 20),
        numbered_video(folder / "short.mp4", 8, 170, size=(48, 24)),
    )


def places(frames):
    """(file, second) of each frame, by its brightness."""
    found = []
    for frame in frames:
        # In the middle, where no border is.
        level = frame.image[frame.image.shape[0] // 2].mean()
        name, base = ("short", 170) if level > 160 else ("long", 20)
        found.append((name, round((level - base) / STEP)))
    return found


def whole(long, short, before=10, rest=25, **options):
    segments = [Segment(long, 0, before), Segment(short, 0, 8), Segment(long, before, rest)]
    return Playlist(segments, **options)


def test_frames_of_segments_in_order(files):
    playlist = whole(*files)
    frames = list(playlist)
    assert len(playlist) == len(frames) == 33
    wanted = [("long", k) for k in range(10)] + [("short", k) for k in range(8)]
    wanted += [("long", k) for k in range(10, 25)]
    assert places(frames) == wanted
    assert [frame.index for frame in frames] == list(range(33))
    assert [frame.time for frame in frames] == list(range(33))
    assert places(playlist) == wanted, "a second pass is another pass"


def test_a_file_that_goes_on_is_not_decoded_again(files):
    opened, passes = Opened(), []
    source = opened[files[0]]

    class Counted(type(source)):
        def __iter__(self):
            passes.append(1)
            return super().__iter__()

    source.__class__ = Counted
    list(whole(*files, opened=opened))
    assert len(passes) == 1
    # Back to an earlier place: there is no other way.
    back = Playlist([Segment(files[0], 5, 7), Segment(files[0], 2, 4)], opened)
    assert places(back) == [("long", k) for k in (5, 6, 2, 3)] and len(passes) == 3


@pytest.mark.parametrize("fps, count", [(0.5, 17), (2.0, 68)])
def test_other_rates(files, fps, count):
    long, short = files
    segments = [Segment(long, 0, 10), Segment(short, 0, 8), Segment(long, 10, 26)]
    frames = list(Playlist(segments, Opened(fps)))
    assert len(frames) == count
    assert [frame.time for frame in frames] == [k / fps for k in range(count)]


def test_all_frames_have_the_size_of_the_file_that_most_are_of(files):
    playlist = whole(*files)
    assert (playlist.info.width, playlist.info.height) == (32, 24) == playlist.size
    assert Playlist(
        [Segment(files[0], 0, 5), Segment(files[1], 0, 8), Segment(files[0], 5, 10)]
    ).size == (32, 24)
    frames = list(playlist)
    assert {frame.image.shape for frame in frames} == {(24, 32, 3)}
    # 48 x 24 scaled into 32 x 24: black above and below.
    assert frames[12].image[0].max() < 30 < 140 < frames[12].image[12].min()
    assert {f.image.shape for f in whole(*files, size=(16, 16))} == {(16, 16, 3)}


def test_fingerprint_is_of_content_and_order(files, tmp_path):
    long, short = files
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(long.read_bytes())
    own = whole(long, short).fingerprint()
    assert own == whole(copy, short).fingerprint()
    assert (
        len(
            {
                own,
                whole(short, short, 3, 8).fingerprint(),
                whole(long, short, before=11).fingerprint(),
                whole(long, short, size=(16, 16)).fingerprint(),
            }
        )
        == 4
    )


@pytest.mark.parametrize("start, end", [(0, 31), (-1, 5), (29, 28)])
def test_a_segment_that_is_not_there(files, start, end):
    with pytest.raises(VideoError, match=r"long\.mp4: wanted .* s of it, it has 30 s"):
        Playlist([Segment(files[0], start, end)])


def test_nothing_at_all(files):
    with pytest.raises(InputError, match="without frames"):
        Playlist([Segment(files[0], 4, 4)])


def test_a_file_that_is_changed_while_it_is_open(files, tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(files[0].read_bytes())
    playlist = Playlist([Segment(path, 0, 30)])
    numbered_video(path, 4, 20)
    with pytest.raises(VideoError, match="changed"):
        list(playlist)


def test_the_same_as_a_real_file(tmp_path):
    cases = small_cases(tmp_path)
    rendered = render_cases(cases, lambda *state: None)
    opened = Opened()
    for case in (rendered.cases[0], rendered.cases[-1]):
        playlist = cases.playlist(case, opened)
        video = open_video(tmp_path / case.video, fps=1.0)
        assert len(video) == len(playlist) == case.frames
        for one, other in zip(playlist, video, strict=True):
            assert (one.index, one.time) == (other.index, other.time)
            difference = torch.tensor(one.image).float() - torch.tensor(other.image).float()
            # Encoded twice instead of once; another frame would be 30 and more.
            assert difference.abs().mean() < 6
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "mp4").iterdir()}
    render_cases(cases, lambda *state: None)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "mp4").iterdir()} == stamps


def test_files_of_other_cases_with_the_same_names_are_not_taken_for_theirs(tmp_path):
    root, seen = tmp_path / "videos", []
    root.mkdir()
    for base in (20, 120):
        numbered_video(root / "hay.mp4", 90, base)
        numbered_video(root / "needle.mp4", 20, 200)
        grid = Grid(lengths=(60,), depths=(0.5,), needles=1)
        stacks = [Haystack("h0", (Source("hay.mp4", 90),))]
        planned = tuple(plan(grid, [needle("n00", 20)], stacks))
        cases = Cases(tmp_path / "cases", root, 1.0, "own videos", planned)
        (case,) = render_cases(cases, lambda *state: None).cases
        seen.append(next(iter(open_video(tmp_path / "cases" / case.video))).image.mean())
    assert [round(level, -1) for level in seen] == [20, 120]


def test_no_room_for_files(tmp_path):
    cases = small_cases(tmp_path)
    (tmp_path / "mp4").touch()
    with pytest.raises(InputError, match="mp4: cannot be made"):
        render_cases(cases, lambda *state: None)
