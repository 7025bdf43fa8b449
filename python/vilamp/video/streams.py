"""Which of several streams is the video."""

from __future__ import annotations

from pathlib import Path

import av
from av.video.stream import VideoStream

from ..errors import VideoError
from .container import MAX_PIXELS

# Cover art and chapter thumbnails are stored as video streams, but are not the video
# (AV_DISPOSITION_ATTACHED_PIC, AV_DISPOSITION_TIMED_THUMBNAILS).
STILLS = 0x400 | 0x800
DEFAULT = 0x1

# Animations are composed on a canvas with transparency, of which the decoder holds several.
CANVASES = ("gif", "apng")
MAX_CANVAS = 1 << 25


def choose_stream(
    container: av.container.InputContainer, path: Path, wanted: int | None
) -> VideoStream:
    """The stream to decode: `wanted` (index in the container), else the one a player would show.

    A player takes the stream that libav ranks best (marked as default, then most frames, then
    bit rate); cover art is never taken unless asked for by its index.

    Raises:
        VideoError: no such stream, none at all, none that can be decoded, or absurd dimensions.
    """
    stream = _best(container, path) if wanted is None else _by_index(container, path, wanted)
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{path}: stream {stream.index} has a codec without a decoder here")
    most = MAX_CANVAS if container.format.name in CANVASES else MAX_PIXELS
    check_size(context.width, context.height, path, most)
    return stream


def check_size(width: int, height: int, path: Path, most: int = MAX_PIXELS) -> None:
    """Raises `VideoError` for a picture too large to be one; 0 x 0 means not known yet."""
    if width * height > most:
        raise VideoError(f"{path}: wanted frames of at most {most} pixels, got {width} x {height}")


def _best(container: av.container.InputContainer, path: Path) -> VideoStream:
    videos = [s for s in container.streams.video if not s.disposition.value & STILLS]
    if not videos:
        raise VideoError(f"{path}: wanted a video stream, the file holds {_contents(container)}")
    best = container.streams.best("video")
    if best in videos:
        return best
    return max(videos, key=lambda s: (s.disposition.value & DEFAULT, s.frames))


def _by_index(container: av.container.InputContainer, path: Path, wanted: int) -> VideoStream:
    for stream in container.streams.video:
        if stream.index == wanted:
            return stream
    raise VideoError(f"{path}: wanted video stream {wanted}, the file holds {_contents(container)}")


def _contents(container: av.container.InputContainer) -> str:
    # By kind, since asking a stream of unknown kind for its type crashes PyAV 16 and before.
    kinds = ("video", "audio", "subtitles", "data", "attachments")
    held = [
        (stream.index, kind) for kind in kinds for stream in getattr(container.streams, kind, ())
    ]
    return ", ".join(f"{kind} (stream {index})" for index, kind in sorted(held)) or "nothing known"
