"""The common face of everything frames can come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from .types import Frame, Skipped, VideoInfo


class FrameSource(ABC):
    """A restartable stream of sampled frames in time order, in bounded memory.

    Every iteration reads the source again from its start and yields the same `index` and `time`.

    Attributes:
        info: facts about the source.
        skipped: broken places met in the last (or current) pass, neighbours as one entry.
        notes: what had to be decided about the source, one line each, as far as it was read.
    """

    info: VideoInfo
    skipped: list[Skipped]
    notes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames that an iteration yields."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Frames in time order. Raises `VideoError` when the source has gone or changed."""

    @abstractmethod
    def fingerprint(self, progress: Callable[[int, int], object] | None = None) -> str:
        """Hex digest of the content and of the sampling: equal for equal frames, a cache key.

        Args:
            progress: called as `progress(done, total)` now and then, in MB of a file or in
                pictures.
        """

    def batches(self, size: int) -> Iterator[list[Frame]]:
        """Frames in lists of `size`, the last one shorter when they do not divide evenly."""
        if size < 1:
            raise ValueError(f"batches: wanted a size of at least 1, got {size}")
        frames = iter(self)
        while batch := list(islice(frames, size)):
            yield batch
