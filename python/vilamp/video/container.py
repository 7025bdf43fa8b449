"""Opens a video file that nobody vouches for: local, regular, one file and no other."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import av

from ..errors import VideoError
from .mp4 import check_samples

# 8192 x 8192: above any camera's video; a frame of this size takes 200 MB as RGB.
MAX_PIXELS = 1 << 26

# Formats that hold their pictures themselves, in use for video today or until lately. Playlists
# and lists of files (hls, dash, concat, image sequences, sdp) name other files or hosts.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,av1,obu,"
    "ivf,h263,flv,asf,ogg,mxf,nut,rm,gif,apng,mjpeg,yuv4mpegpipe,dv,vc1,wtv"
)

# What libav and its Python binding raise on damaged data.
DECODER_ERRORS = (av.FFmpegError, ValueError, RuntimeError, OSError, OverflowError, MemoryError)

READ_SIZE = 1 << 18


def explain(error: BaseException) -> str:
    """The cause in a few words, without the address that libav appends."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def check_local_file(path: Path) -> None:
    """Raises `VideoError` unless `path` is a regular file with something in it."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if "://" in str(path) or ":/" in str(path):
            raise VideoError(f"{path}: wanted a local file, got an address") from error
        raise VideoError(f"{path}: wanted a video file, found none ({explain(error)})") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: wanted a regular file, got something else")
    if status.st_size == 0:
        raise VideoError(f"{path}: wanted a video, the file is empty")


def _refuse(url: str, *_: object) -> None:
    raise PermissionError(f"the file asks for another one: {url}")


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """The container at `path`, closed on leaving.

    libav gets an open file, never a name, so names that look like protocols mean nothing; no
    protocol is allowed, only formats that hold their own pictures, and whatever the content asks
    to open besides is refused.

    Raises:
        VideoError: not a file, not readable, not a video format, or more samples than it can have.
    """
    check_local_file(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise VideoError(f"{path}: wanted a readable file ({explain(error)})") from error
    with file:
        check_samples(file, path)
        try:
            container = _open(file)
        except DECODER_ERRORS as error:
            container = _open_as_pipe(file)
            if container is None:
                raise VideoError(
                    f"{path}: wanted a video; not one, damaged, or cut off ({explain(error)})"
                ) from error
        try:
            yield container
        finally:
            container.close()


class _Pipe:
    """A file that can only be read on."""

    def __init__(self, file: BinaryIO) -> None:
        self.name = file.name
        self.read = file.read

    def seekable(self) -> bool:
        return False


def _open(file: BinaryIO | _Pipe) -> av.container.InputContainer:
    return av.open(
        file,
        # Not `options`: up to PyAV 16 those crash on formats that reveal their streams late.
        container_options={"format_whitelist": FORMATS, "protocol_whitelist": ""},
        metadata_errors="replace",
        buffer_size=READ_SIZE,
        io_open=_refuse,
    )


def _open_as_pipe(file: BinaryIO) -> av.container.InputContainer | None:
    """A second try for fragmented recordings cut off inside a fragment's header.

    libav looks through all fragments before it begins, and gives up over the last one; reading
    straight on it plays those before.
    """
    file.seek(0)
    try:
        return _open(_Pipe(file))
    except DECODER_ERRORS:
        return None
