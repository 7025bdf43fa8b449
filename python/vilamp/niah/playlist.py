"""Segments of video files, one after the other, as one source of frames: nothing is copied."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import InputError, VideoError
from ..video import Frame, FrameSource, Skipped, VideoInfo, open_video
from ..video.fit import fit

# Times are stored as decimal fractions: a moment this close before a frame is the frame's.
SLACK = 1e-6


@dataclass(frozen=True)
class Segment:
    """Part of a file, in seconds from its start: frames at `start` up to, not including, `end`."""

    path: Path
    start: float
    end: float


@dataclass(frozen=True)
class Piece:
    """A segment as frame numbers of its file, sampled at the play list's rate."""

    path: Path
    first: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.first


class Opened:
    """Files that are open as sources of frames, each opened, and its content hashed, once."""

    def __init__(self, fps: float = 1.0):
        self.fps = fps
        self._sources: dict[Path, FrameSource] = {}
        self._hashes: dict[Path, str] = {}

    def __getitem__(self, path: Path) -> FrameSource:
        """The file's frames.

        Raises:
            VideoError: it cannot be read.
        """
        if path not in self._sources:
            self._sources[path] = open_video(path, fps=self.fps)
        return self._sources[path]

    def fingerprint(self, path: Path) -> str:
        """Hash of the file's content and of the sampling."""
        if path not in self._hashes:
            self._hashes[path] = self[path].fingerprint()
        return self._hashes[path]


def whole_frames(source: FrameSource, fps: float) -> int:
    """Frames of a file that it shows for their whole time: a rest at its end is none.

    So the same part of it can be taken at a multiple of the rate.
    """
    if source.info.duration is None:
        return len(source)
    return min(len(source), math.floor(source.info.duration * fps + SLACK))


class Playlist(FrameSource):
    """The frames of segments in order, timed as if they were one video.

    Frame k is shown at k / fps. The frames of a segment are those that its file has at the same
    rate, so a segment is the same wherever it is put. All have one size: those of another are
    scaled to fit, on black, as a player shows them.

    Args:
        segments: at least one frame in all.
        opened: the files, at the rate of the play list.
        size: width and height of the frames in pixels; when None, of the file that most are of.
    Raises:
        VideoError: a file cannot be read, or ends before its segment.
        InputError: no frame in any segment.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        opened: Opened | None = None,
        size: tuple[int, int] | None = None,
    ):
        self.opened = Opened() if opened is None else opened
        self.fps = self.opened.fps
        self.pieces = [self._piece(s) for s in segments]
        self._length = sum(map(len, self.pieces))
        if self._length == 0:
            raise InputError("a play list without frames")
        if size is None:
            info = self.opened[self._longest()].info
            size = info.width, info.height
        self.size = size
        self.skipped: list[Skipped] = []
        self.info = VideoInfo(
            path=None,
            width=size[0],
            height=size[1],
            duration=self._length / self.fps,
            codec="play list",
            frame_rate=self.fps,
            frame_count=self._length,
        )

    def _piece(self, segment: Segment) -> Piece:
        first, stop = (
            math.ceil(moment * self.fps - SLACK) for moment in (segment.start, segment.end)
        )
        held = len(self.opened[segment.path])
        if not 0 <= first <= stop <= held:
            raise VideoError(
                f"{segment.path}: wanted {segment.start:g} to {segment.end:g} s of it, "
                f"it has {held / self.fps:g} s"
            )
        return Piece(segment.path, first, stop)

    def _longest(self) -> Path:
        """The file that most frames are of, the first of several."""
        counts: dict[Path, int] = {}
        for piece in self.pieces:
            counts[piece.path] = counts.get(piece.path, 0) + len(piece)
        return max(counts, key=counts.__getitem__)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = []
        exact = Fraction(self.fps).limit_denominator(1_000_000)
        number = 0
        with ExitStack() as stack:
            # A file that goes on after the needle is not decoded again.
            reading: dict[Path, Iterator[Frame]] = {}
            reached: dict[Path, int] = {}
            for piece in self.pieces:
                path = piece.path
                if path not in reading or reached[path] > piece.first:
                    reading[path] = stack.enter_context(closing(iter(self.opened[path])))
                    reached[path] = 0
                for _ in range(len(piece)):
                    frame = self._next(reading[path], path, piece.first)
                    reached[path] = frame.index + 1
                    time = float(number / exact)
                    yield Frame(number, time, fit(frame.image, *self.size), time)
                    number += 1
                self.skipped += [s for s in self.opened[path].skipped if s not in self.skipped]

    @staticmethod
    def _next(frames: Iterator[Frame], path: Path, first: int) -> Frame:
        for frame in frames:
            if frame.index >= first:
                return frame
        raise VideoError(f"{path}: changed while it was read, it ends early")

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hash of the files' content, of the segments, the rate and the size; no progress is told,
        since most files are known from another play list.
        """
        parts = [(self.opened.fingerprint(p.path), p.first, p.stop) for p in self.pieces]
        return hashlib.sha256(repr((parts, self.fps, self.size)).encode()).hexdigest()
