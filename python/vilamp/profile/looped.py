"""Videos of any number of frames, made of the frames of another one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from ..drawn import draw_video, write_video
from ..errors import VideoError
from ..video import Frame, FrameSource, open_video

DRAWN_SECONDS, DRAWN_SIDE, MOST_DRAWN = 64, 384, 1024
"""Of the drawn video: seconds and side of what is drawn, frames of the file."""


def drawn_video(path: Path, frames: int) -> None:
    """Write a video of so many frames, at most `MOST_DRAWN`, one to a second."""
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder) / "short.mp4"
        draw_video(short, seconds=DRAWN_SECONDS, seed=0, fps=1, size=DRAWN_SIDE)
        images = [frame.image for frame in open_video(short)]
    write_video(path, islice(cycle(images), min(frames, MOST_DRAWN)), 1)


class LoopedFrames(FrameSource):
    """The first `count` frames of a source; a shorter one is read again and again, each time
    decoded anew.

    Args:
        source: with at least one frame.
        count: frames of this video.
        fps: frames to a second, for their times.
    """

    def __init__(self, source: FrameSource, count: int, fps: float):
        self.count = count
        self._source, self._fps = source, fps
        self.info = replace(source.info, duration=count / fps, frame_count=count)

    @property
    def skipped(self) -> list:
        return self._source.skipped

    @skipped.setter
    def skipped(self, places: list) -> None:
        self._source.skipped = places

    @property
    def notes(self) -> Sequence[str]:
        return self._source.notes

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Frame]:
        done = 0
        while done < self.count:
            before = done
            for frame in islice(self._source, self.count - done):
                time = done / self._fps
                yield replace(frame, index=done, time=time, pts=time)
                done += 1
            if done == before:
                raise VideoError(f"{self.info.path}: no frame could be decoded")

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        return f"{self._source.fingerprint(progress)} looped to {self.count} at {self._fps}"
