"""A video file as a source of frames."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import VideoError
from .colour import RGBConverter
from .container import DECODER_ERRORS, explain, opened
from .decode import configure, keyframes, pictures
from .index import build_index, frame_rate
from .interlace import remove_combs
from .orientation import orientation_of
from .packets import PacketTable
from .sampling import Plan, plan_by_time, plan_keyframes, plan_released
from .schedule import on_screen
from .skips import add_skipped
from .source import FrameSource
from .streams import choose_stream
from .types import Frame, Skipped, VideoInfo

HASH_BLOCK = 1 << 20
MB = 10**6

# Seconds: broken places this near to each other are listed as one.
NEAR = 1.0


# Ways to read, each slower than the one before. SHORT decodes only what the samples need; FAST
# everything, several pictures at a time; CAREFUL one after another, listing what is broken.
SHORT, FAST, CAREFUL = range(3)


class _Obstacle(Exception):
    """A pass met what a slower way of reading has to deal with."""

    def __init__(self, way: int) -> None:
        super().__init__(way)
        self.way = way


class VideoFile(FrameSource):
    """Frames of one video stream; opening reads all packets and decodes the first picture.

    Raises:
        VideoError: not a video, no such stream, or not one picture in it can be decoded.
    """

    def __init__(
        self,
        path: Path,
        *,
        fps: Fraction,
        sampling: str,
        max_frames: int | None,
        stream: int | None,
    ) -> None:
        self.path = path
        self.skipped: list[Skipped] = []
        self._settings = (str(fps), sampling, max_frames)
        with opened(path) as container:
            chosen = choose_stream(container, path, stream)
            self._stream = chosen.index
            self._index, packets = build_index(container, chosen, path)
            rate = frame_rate(chosen)
        self.notes = self._index.notes
        self._state = self._file_state()
        stamps = self._index.stamps()
        self._plan = self._make_plan(sampling, fps, rate, max_frames, packets, stamps)
        self._due = stamps[np.searchsorted(stamps, self._plan.ticks, side="right") - 1]
        self._key_stamps: np.ndarray | None = None
        if sampling == "keyframes":
            # Damage stays where it is, so there is nothing that a slower way would do better.
            self._way = CAREFUL
            self._needed, self._key_stamps = packets.keys_at(self._due), packets.stamps
        else:
            self._needed = packets.needed_for(self._due)
            self._way = FAST if self._needed is None else SHORT
        self.info = self._probe(rate)

    def __len__(self) -> int:
        return len(self._plan)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped = []
        done = 0
        while self._way < CAREFUL:
            try:
                for frame in self._frames(done, self._way):
                    yield frame
                    done += 1
                return
            except _Obstacle as obstacle:
                self._way = obstacle.way
        self.skipped = []
        if self._index.truncated:
            self.skipped.append(
                Skipped(
                    self._index.duration,
                    f"the file ends {self._index.truncated:.1f} s before its header says",
                )
            )
        yield from self._frames(done, CAREFUL)

    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hash of the whole file, the stream and the sampling."""
        digest = hashlib.sha256(repr((self._settings, self._stream)).encode())
        with self.path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            for block in iter(lambda: file.read(HASH_BLOCK), b""):
                digest.update(block)
                if progress is not None:
                    progress(file.tell() // MB, total // MB)
        return digest.hexdigest()

    def _frames(self, first: int, way: int) -> Iterator[Frame]:
        """Sampled frames from position `first` on.

        Raises:
            _Obstacle: at the first broken place, unless `CAREFUL`: then it goes to `skipped`; at
                the first picture that is not the due one, if `SHORT`.
            VideoError: the file has changed, or no picture in it can be decoded.
        """
        if self._file_state() != self._state:
            raise VideoError(f"{self.path}: wanted the file as it was opened, it has changed")
        index, convert = self._index, RGBConverter()
        image: np.ndarray | None = None
        converted: av.VideoFrame | None = None

        reach = max(NEAR, 3 * index.frame_ticks * float(index.time_base))

        def report(seconds: float | None, reason: str, reach: float = reach) -> None:
            if way < CAREFUL:
                raise _Obstacle(CAREFUL)
            add_skipped(self.skipped, seconds, reason, reach)

        frozen: int | None = None

        def late(due: int, shown: int) -> None:
            nonlocal frozen
            if way == SHORT:
                raise _Obstacle(FAST)
            # A picture of its own is missing, not just a second field or a hidden reference.
            if due - shown >= 2 * index.frame_ticks:
                # As long as the same picture stays it is one place.
                near = math.inf if shown == frozen else reach
                report(index.seconds(due), "no picture, the one before it stays", near)
                frozen = shown

        with opened(self.path) as container:
            stream = choose_stream(container, self.path, self._stream)
            configure(stream, way == CAREFUL)
            with closing(self._pictures(container, stream, way, report)) as shown:
                for position, tick, picture in on_screen(self._plan.ticks, self._due, shown, late):
                    if way == SHORT and tick != self._due[position]:
                        raise _Obstacle(FAST)
                    # The one before the first too, in case that has to stand in.
                    if position < first - 1:
                        continue
                    try:
                        if picture is converted:
                            # In a long gap the same picture is shown again and again.
                            image = image.copy()
                        else:
                            image = self._image(picture, convert, stream.codec_context.color_trc)
                            converted = picture
                    except DECODER_ERRORS as error:
                        report(index.seconds(tick), explain(error))
                        if image is None:
                            break
                        image = image.copy()
                    if position >= first:
                        time = float(self._plan.times[position])
                        yield Frame(position, time, image, index.seconds(tick))
        if image is None:
            why = f" ({self.skipped[0].reason})" if self.skipped else ""
            raise VideoError(f"{self.path}: wanted pictures, none could be decoded{why}")

    def _pictures(
        self,
        container: av.container.InputContainer,
        stream: av.video.stream.VideoStream,
        way: int,
        report: Callable[[float | None, str], None],
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        if self._key_stamps is not None:
            return keyframes(container, stream, self._index, report, self._needed, self._key_stamps)
        needed = self._needed if way == SHORT else None
        return pictures(container, stream, self._index, report, needed)

    def _image(self, picture: av.VideoFrame, convert: RGBConverter, transfer: int) -> np.ndarray:
        orientation = orientation_of(picture)
        image = convert(picture, transfer)
        if picture.interlaced_frame:
            image = remove_combs(image)
        return orientation.apply(image)

    def _probe(self, rate: Fraction | None) -> VideoInfo:
        """Decodes the first picture, since containers do not tell everything about it."""
        reasons: list[str] = []
        with opened(self.path) as container:
            stream = choose_stream(container, self.path, self._stream)
            configure(stream, careful=True)
            index = self._index
            with closing(
                pictures(container, stream, index, lambda _, reason: reasons.append(reason))
            ) as shown:
                _, picture = next(shown, (0, None))
            if picture is None:
                why = f" ({reasons[0]})" if reasons else ""
                raise VideoError(f"{self.path}: wanted pictures, none could be decoded{why}")
            if reasons or index.truncated > 0:
                self._way = CAREFUL
            orientation = orientation_of(picture)
            width, height = picture.width, picture.height
            if orientation.transpose:
                width, height = height, width
            return VideoInfo(
                path=str(self.path),
                width=width,
                height=height,
                duration=index.duration,
                codec=stream.codec_context.codec.canonical_name,
                frame_rate=float(rate) if rate else None,
                rotation=orientation.degrees,
                stream=self._stream,
                container=container.format.name,
                pixel_format=picture.format.name,
                sample_aspect_ratio=stream.sample_aspect_ratio or Fraction(1),
                frame_count=index.count,
            )

    def _make_plan(
        self,
        sampling: str,
        fps: Fraction,
        rate: Fraction | None,
        max_frames: int | None,
        packets: PacketTable,
        stamps: np.ndarray,
    ) -> Plan:
        index = self._index
        if sampling == "keyframes":
            ticks = packets.key_ticks
            if not len(ticks):
                raise VideoError(
                    f"{self.path}: wanted keyframes, the video marks none; use sampling='time'"
                )
            return plan_keyframes(ticks, index.start, index.time_base, fps, max_frames)
        if sampling == "released":
            stated = float(rate) if rate else None
            return plan_released(stamps, index.time_base, stated, max_frames)
        return plan_by_time(index.start, index.end, index.time_base, fps, max_frames)

    def _file_state(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError as error:
            raise VideoError(f"{self.path}: wanted the file as opened, it is gone") from error
        return status.st_size, status.st_mtime_ns
