"""One door for every kind of source."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..arguments import whole
from ..errors import VideoError
from . import kinds
from .animation import AnimatedWebP
from .file import VideoFile
from .images import ImageArray, ImageFiles, ImageList, Pages
from .sampling import check_arguments
from .source import FrameSource

if TYPE_CHECKING:
    import torch
    from PIL import Image


def open_video(
    source: str | os.PathLike | Sequence[Image.Image] | np.ndarray | torch.Tensor,
    *,
    fps: float = 1.0,
    sampling: str = "time",
    max_frames: int | None = None,
    stream: int | None = None,
) -> FrameSource:
    """Opens anything that frames can come from as a restartable stream of sampled frames.

    Args:
        source: path of a video file or an animation; folder of images (natural order), one image
            or a TIFF file of several pages; list of PIL
            images; uint8 array or tensor `[N, H, W, 3]`, RGB. Pictures that are not a video file
            are samples already: all are taken, `fps` of them to a second.
        fps: samples per second, from 1e-9 to 1e6.
        sampling: "time": the picture on screen at k / fps after the start of the stream;
            "released": every int(frame rate)-th decoded frame, as the published code reads.
            "keyframes": the pictures that a file stores whole, at most `fps` of them a second;
            pictures that are not a video file are all taken.
        max_frames: more samples than this are thinned evenly (truncated linspace, as published)
            before anything is decoded.
        stream: index of the video stream in its container; by default the one a player shows.

    Raises:
        VideoError: the source cannot be read as a video; one line, what was wanted and what came.
        InputError: `fps`, `sampling`, `max_frames` or `stream` is unusable.
    """
    rate = check_arguments(fps, sampling, max_frames)
    if stream is not None:
        whole("stream", stream, least=0)
    settings = {"fps": rate, "sampling": sampling, "max_frames": max_frames}
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            folder, file = path.is_dir(), path.is_file()
        except OSError as error:
            # Such as a name that is too long, or a folder that may not be looked into.
            reason = error.strerror or error
            raise VideoError(f"{path}: wanted a video file, found none ({reason})") from error
        if folder:
            return ImageFiles.of_folder(path, **settings)
        kind = kinds.of_file(path) if file else kinds.VIDEO
        if kind == kinds.VIDEO:
            return VideoFile(path, stream=stream, **settings)
        if kind == kinds.ANIMATED_WEBP:
            return AnimatedWebP(path, **settings)
        if kind == kinds.TIFF:
            return Pages(path, **settings)
        return ImageFiles([path], str(path), path, **settings)
    if isinstance(source, np.ndarray) or hasattr(source, "detach"):
        return ImageArray(source, **settings)
    if isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray)):
        return ImageList(source, **settings)
    raise VideoError(
        "wanted the path of a video, a folder of images, a list of PIL images or a uint8 array, "
        f"got a {type(source).__name__}"
    )
