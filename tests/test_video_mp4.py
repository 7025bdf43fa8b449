"""MP4 files that declare more samples than they can have."""

import subprocess
import sys

import pytest
from mp4_boxes import fragment, movie, table, track
from vilamp.errors import VideoError
from vilamp.video import open_video
from vilamp.video.mp4 import check_samples

MANY = 60_000_000
LISTS = tuple((90_000, 0) for _ in range(2000))

BOMBS = {
    "one size for all": movie(track(MANY)),
    "a size of many bytes": movie(track(MANY, size=5000)),
    "sound": movie(track(250), track(MANY, handler=b"soun", ticks=1024)),
    "plain sound": movie(track(250), track(2**32 - 1, handler=b"soun", size=2)),
    "several tracks": movie(*[track(900_000) for _ in range(60)]),
    "a compressed header": movie(track(MANY), packed=True),
    "fragments": movie(track(0), table("mvex")) + fragment(MANY),
    "many fragments": movie(track(0), table("mvex")) + 60 * fragment(1_000_000),
    "edits that show all again": movie(track(90_000, edits=LISTS)),
    "edits far from a keyframe": movie(
        track(90_000, edits=tuple((1, 89_000) for _ in range(2000)), keys=(1,))
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_more_samples_than_the_file_can_have_are_refused(tmp_path, name):
    path = tmp_path / "bomb.mp4"
    path.write_bytes(BOMBS[name])
    assert path.stat().st_size < 50_000
    with pytest.raises(VideoError, match=r"its tables declare \d+(,\d{3}){2,} in"):
        open_video(path)


SOUND = {
    "cut off": movie(track(250_000, size=144_000, ticks=40)),
    "hours of plain sound, cut off": movie(track(2 * 3600 * 48_000, handler=b"soun", size=4)),
    "many short edits": movie(
        track(90_000, edits=tuple((40, 40 * n) for n in range(900)), keys=tuple(range(1, 90_000)))
    ),
    "a compressed header": movie(track(250), packed=True),
    "another format": b"\x47" + bytes(1000),
    "too short": b"\0\0\0\x08mo",
    "boxes in boxes": b"\0\0\x10\0moov" * 100,
}


@pytest.mark.parametrize("name", SOUND)
def test_what_can_be_is_left_to_libav(tmp_path, name):
    path = tmp_path / "video.mp4"
    path.write_bytes(SOUND[name])
    with path.open("rb") as file:
        check_samples(file, path)
        assert file.tell() == 0


def test_a_bomb_takes_no_memory(tmp_path):
    """Above what the process holds at rest: 2 GB while libav builds its index."""
    path = tmp_path / "bomb.mp4"
    path.write_bytes(movie(track(MANY)))
    script = """
import resource, sys
from vilamp.video import open_video
from vilamp.errors import VideoError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    open_video(sys.argv[1])
except VideoError:
    print(peak() - before)
"""
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100 * 1024
