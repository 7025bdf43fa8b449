"""The two passes over a video as streams of batches that are ready for a tower.

One thread decodes, a second one resizes, the caller runs the model; between them queues with room
for a few frames, so that memory is bounded and a slow model stops the decoder. A frame is dropped
as soon as it is resized. What the second sweep needs is spooled where it fits, so that the video is
decoded once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .overlap import ahead
from .spool import Spool
from .video import Frame, FrameSource

SHOWN_SIZE = 640
"""Longest side in pixels of a frame that is kept for showing."""

DECODED_AHEAD, RESIZED_AHEAD = 4, 1
"""Decoded frames, and batches of resized ones, that may wait."""

Resize = Callable[[list[np.ndarray]], Tensor]
"""Frames uint8 `[H, W, 3]` -> what a tower takes, `[n, 3, h, w]`."""


@dataclass(frozen=True)
class Batch:
    """The next frames of a video, in time order."""

    start: int
    times: list[float]
    parts: list[Tensor]
    """`[1, 3, h, w]` each, normalised for the tower."""
    pictures: dict[int, Frame] = field(default_factory=dict)
    """By number, the frames that are to be shown, shrunk to `SHOWN_SIZE`."""

    @property
    def pixels(self) -> Tensor:
        """`[n, 3, h, w]`; joined here, in the caller's thread, where torch's threads belong."""
        return torch.cat(self.parts)

    @property
    def end(self) -> int:
        """Number of the frame after the last one."""
        return self.start + len(self.times)


def decoded(
    source: FrameSource,
    size: int,
    resize: Resize,
    *,
    shown: Collection[int] = (),
    spool: Spool | None = None,
    shrink: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Iterator[Batch]:
    """Batches of `size` frames, decoded and resized ahead of the caller.

    Args:
        source: of the frames.
        size: frames in a batch.
        resize: for the tower.
        shown: numbers of the frames whose picture is kept.
        spool: where `shrink(frame)` of every frame is written on the way.
        shrink: to the frames of the spool.
    Raises:
        VideoError: from the source.
    """

    def ready(frame: Frame) -> _Ready:
        if spool is not None and spool.failed is None:
            spool.write(shrink(frame.image))
        picture = small(frame) if frame.index in shown else None
        return _Ready(frame.index, frame.time, resize([frame.image]), picture)

    stop = threading.Event()
    with (
        ahead(source, DECODED_AHEAD, stop) as frames,
        ahead(_batches(map(ready, frames), size), RESIZED_AHEAD, stop) as batches,
    ):
        yield from batches


def spooled(spool: Spool, times: list[float], size: int, resize: Resize) -> Iterator[Batch]:
    """The same batches from the frames that an earlier sweep wrote down."""

    def ready(numbered: tuple[int, np.ndarray]) -> _Ready:
        number, image = numbered
        return _Ready(number, times[number], resize([image]), None)

    with ahead(_batches(map(ready, enumerate(spool)), size), RESIZED_AHEAD) as batches:
        yield from batches


def small(frame: Frame) -> Frame:
    """The frame with its picture shrunk to a size for showing, so that a few do not weigh much."""
    picture = Image.fromarray(frame.image)
    picture.thumbnail((SHOWN_SIZE, SHOWN_SIZE))
    return replace(frame, image=np.asarray(picture))


class _Ready(NamedTuple):
    """One frame on its way."""

    index: int
    time: float
    pixels: Tensor
    picture: Frame | None


def _batches(ready: Iterable[_Ready], size: int) -> Iterator[Batch]:
    ready = iter(ready)
    while frames := list(islice(ready, size)):
        yield Batch(
            start=frames[0].index,
            times=[frame.time for frame in frames],
            parts=[frame.pixels for frame in frames],
            pictures={frame.index: frame.picture for frame in frames if frame.picture},
        )
