"""A video of any number of frames, made of the frames of another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from ..errors import VideoError
from ..video import Frame, FrameSource


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

    def fingerprint(self) -> str:
        return f"{self._source.fingerprint()} looped to {self.count} at {self._fps}"
